//! The responses, borrowed from wherever the server keeps what it answers.

use crate::error_code::ErrorCode;
use crate::jute::Writer;
use crate::op_code::OpCode;
use crate::record::{Acl, Stat};
use crate::request::write_multi_header;

/// The body behind a reply's header.
#[derive(Debug)]
pub enum Response<'a> {
    /// delete, check, setWatches, closeSession, ping: the header says it all.
    Empty,
    /// create, sync.
    Path(&'a str),
    /// create2.
    PathStat(&'a str, Stat),
    /// exists, setData, setACL.
    Stat(Stat),
    /// getData.
    Data(Option<&'a [u8]>, Stat),
    /// getChildren.
    Children(&'a [&'a str]),
    /// getChildren2.
    Children2(&'a [&'a str], Stat),
    /// getACL.
    Acl(&'a [Acl], Stat),
    /// multi: the op code and outcome of each operation.
    Multi(&'a [(OpCode, Result<Response<'a>, ErrorCode>)]),
}

/// The op code that stands for a failed operation in a multi's results.
const ERROR: i32 = -1;

impl Response<'_> {
    /// Writes the body.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Response::Empty => {}
            Response::Path(path) => w.string(path),
            Response::PathStat(path, stat) => {
                w.string(path);
                stat.encode(w);
            }
            Response::Stat(stat) => stat.encode(w),
            Response::Data(data, stat) => {
                w.buffer(*data);
                stat.encode(w);
            }
            Response::Children(names) => w.vec(names.iter(), |w, name| w.string(name)),
            Response::Children2(names, stat) => {
                w.vec(names.iter(), |w, name| w.string(name));
                stat.encode(w);
            }
            Response::Acl(acl, stat) => {
                w.vec(acl.iter(), |w, acl| acl.encode(w));
                stat.encode(w);
            }
            Response::Multi(results) => {
                for (op, result) in *results {
                    match result {
                        Ok(response) => {
                            write_multi_header(w, op.code(), false, 0);
                            response.encode(w);
                        }
                        Err(error) => {
                            write_multi_header(w, ERROR, false, error.code());
                            w.i32(error.code());
                        }
                    }
                }
                write_multi_header(w, ERROR, true, -1);
            }
        }
    }
}
