//! The lines that the user types, edited and recalled on a terminal, or those of a file.

use std::io::IsTerminal;
use std::sync::mpsc;
use std::thread;

use rustyline::{Config, DefaultEditor, ExternalPrinter};

/// Lines, read on a thread of their own, so that the session lives on while the user thinks.
pub(super) struct Input {
    prompts: mpsc::Sender<String>,
    lines: tokio::sync::mpsc::Receiver<String>,
}

/// Prints what comes while the user edits a line, without breaking the line.
pub(super) type Printer = Box<dyn FnMut(String) + Send>;

impl Input {
    /// Lines from standard input, and how to print beside them.
    pub(super) fn open() -> (Input, Printer) {
        let config = Config::builder().auto_add_history(true).build();
        let editor = match std::io::stdin().is_terminal() {
            true => DefaultEditor::with_config(config).ok(),
            false => None,
        };
        let (prompts, asked) = mpsc::channel::<String>();
        let (sender, lines) = tokio::sync::mpsc::channel(1);
        let mut printer: Printer = Box::new(|text| crate::terminal::print(&text));
        match editor {
            Some(mut editor) => {
                if let Ok(mut external) = editor.create_external_printer() {
                    // A terminal that is gone has no one to tell.
                    printer = Box::new(move |text| drop(external.print(text)));
                }
                answer(asked, sender, move |prompt| editor.readline(prompt).ok());
            }
            None => {
                answer(asked, sender, |_| std::io::stdin().lines().next()?.ok());
            }
        }
        (Input { prompts, lines }, printer)
    }

    /// The next line; `None` at the end, or when the user has had enough.
    pub(super) async fn next(&mut self, prompt: String) -> Option<String> {
        self.prompts.send(prompt).ok()?;
        self.lines.recv().await
    }
}

/// Answers each prompt with a line, on a thread of its own, until there are no more.
fn answer(
    prompts: mpsc::Receiver<String>,
    lines: tokio::sync::mpsc::Sender<String>,
    mut read: impl FnMut(&str) -> Option<String> + Send + 'static,
) {
    thread::spawn(move || {
        for prompt in prompts {
            let Some(line) = read(&prompt) else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
}
