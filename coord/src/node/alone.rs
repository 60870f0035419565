//! The way to other members of a server that has none.

use coord_core::ServerSpec;

use crate::raft::{
    Envelope, Request, Response, Stream, StreamKind, Transport, TransportError, Work,
};

/// Reaches nobody.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Transport for Alone {
    fn call(
        &self,
        _: &ServerSpec,
        _: Envelope,
        _: Request,
    ) -> Work<'static, Result<Response, TransportError>> {
        Box::pin(async { Err(nobody()) })
    }

    fn open(
        &self,
        _: &ServerSpec,
        _: Envelope,
        _: StreamKind,
    ) -> Work<'static, Result<Stream, TransportError>> {
        Box::pin(async { Err(nobody()) })
    }
}

fn nobody() -> TransportError {
    TransportError::Broken("this server is by itself".to_owned())
}
