//! `kafka-dump-log`: what the files of a log hold.
//!
//! Prints what Kafka's tool prints, in its words; beyond it, the checkpoints, and with `-o json` a JSON object for each
//! line. It looks at files, never at a broker, and changes nothing.

mod batches;
mod decoder;
mod fields;
mod groups;
mod indexes;
mod output;
mod state;
mod transactions;

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;

use log::inspect::{FileKind, InspectError};

use crate::options::{OptionSpec, Options, Tool, UsageError, flag, value};
use batches::{BatchDump, dump_batches};
use decoder::Decoders;
use indexes::{IndexChecks, dump_offset_index, dump_time_index};
use output::{Findings, Format, Output};

/// The tool.
pub(crate) const TOOL: Tool = Tool {
    name: "dump-log",
    about: "This tool prints what the files of a log hold, to find out what is wrong with one.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[OptionSpec] = &[
    value(
        "files",
        "file1,file2",
        "REQUIRED: the files, separated by commas: .log, .index, .timeindex, .txnindex, .snapshot, checkpoints.",
    ),
    flag(
        "deep-iteration",
        "Print the records of each batch, too. Goes with print-data-log.",
    ),
    flag("print-data-log", "Print keys and values of records."),
    flag(
        "skip-record-metadata",
        "With --print-data-log: print nothing else of the records.",
    ),
    flag(
        "verify-index-only",
        "Compare indexes with their logs, and print only what does not fit.",
    ),
    flag(
        "index-sanity-check",
        "Check indexes as a broker does when it starts, and print nothing of them.",
    ),
    value(
        "max-message-size",
        "bytes",
        "The largest batch that an index may lead to (default: 5242880).",
    ),
    value(
        "max-bytes",
        "bytes",
        "Read no more than that of each .log file (default: 2147483647).",
    ),
    value(
        "key-decoder-class",
        "class",
        "How keys are printed: StringDecoder, IntegerDecoder or LongDecoder of org.apache.kafka.tools.api.",
    ),
    value(
        "value-decoder-class",
        "class",
        "How values are printed, likewise.",
    ),
    flag(
        "offsets-decoder",
        "The records are those of __consumer_offsets.",
    ),
    flag(
        "transaction-log-decoder",
        "The records are those of __transaction_state.",
    ),
    value(
        "output",
        "format",
        "text, or json: an object for each line.",
    )
    .short('o'),
];

/// What is asked for.
struct Request {
    files: Vec<PathBuf>,
    batches: BatchDump,
    indexes: IndexChecks,
    format: Format,
}

impl Request {
    fn of(options: &Options) -> Result<Self, UsageError> {
        options.require(&["files"])?;
        let files = options.value("files")?.unwrap_or_default();
        let decoders = Decoders::of(options)?;
        let print_data = options.has("print-data-log") || !decoders.are_plain();
        let size = |name: &str, default: u64| match options.number::<u64>(name)? {
            Some(size) if size > i32::MAX as u64 => Err(UsageError(format!(
                "Cannot parse argument '{size}' of option {name}"
            ))),
            size => Ok(size.unwrap_or(default)),
        };
        Ok(Self {
            files: files.split(',').map(|file| file.trim().into()).collect(),
            batches: BatchDump {
                deep: options.has("deep-iteration") || print_data,
                print_data,
                skip_metadata: options.has("skip-record-metadata"),
                max_bytes: size("max-bytes", i32::MAX as u64)?,
                decoders,
            },
            indexes: IndexChecks {
                sanity_only: options.has("index-sanity-check"),
                verify_only: options.has("verify-index-only"),
                max_message_size: size("max-message-size", 5 * 1024 * 1024)? as usize,
            },
            format: match options.value("output")? {
                None | Some("text") => Format::Text,
                Some("json") => Format::Json,
                Some(other) => {
                    return Err(UsageError(format!(
                        "Cannot parse argument '{other}' of option output: text and json are known"
                    )));
                }
            },
        })
    }

    fn dump<W: Write>(
        &self,
        file: &Path,
        output: &mut Output<W>,
        findings: &mut Findings,
    ) -> Result<(), InspectError> {
        output.begin(file);
        match FileKind::of(file) {
            Some(FileKind::Log(base)) => dump_batches(file, base, &self.batches, output, findings),
            Some(FileKind::OffsetIndex(base)) => {
                dump_offset_index(file, base, &self.indexes, output, findings)
            }
            Some(FileKind::TimeIndex(base)) => {
                dump_time_index(file, base, &self.indexes, output, findings)
            }
            Some(FileKind::TransactionIndex(_)) => state::dump_transaction_index(file, output),
            Some(FileKind::ProducerSnapshot(_)) => state::dump_snapshot(file, output),
            Some(FileKind::OffsetCheckpoint) => state::dump_offset_checkpoint(file, output),
            Some(FileKind::LeaderEpochCheckpoint) => state::dump_epoch_checkpoint(file, output),
            None => {
                eprintln!("Ignoring unknown file {}", file.display());
                Ok(())
            }
        }
    }

    /// All files, and what does not fit together in them; true if all could be read.
    fn dump_all<W: Write>(&self, output: &mut Output<W>) -> (Findings, bool) {
        let mut findings = Findings::default();
        let mut all = true;
        for file in &self.files {
            if let Err(error) = self.dump(file, output, &mut findings) {
                // What comes on standard output comes first.
                output.flush();
                eprintln!("{error}");
                all = false;
            }
        }
        output.flush();
        (findings, all)
    }
}

fn run(options: Options) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(async move {
        let request = match Request::of(&options) {
            Ok(request) => request,
            Err(error) => return options.usage(&error),
        };
        let (findings, all) = request.dump_all(&mut Output::to_stdout(request.format));
        findings.print();
        if all {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    })
}

#[cfg(test)]
mod tests;
