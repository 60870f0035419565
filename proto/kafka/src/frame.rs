//! Whole frames: a size of four bytes, a header, a body.

use bytes::Bytes;
use bytestring::ByteString;

use crate::{
    DecodeError, EncodeError, Message, Reader, Request, RequestHeader, ResponseHeader, Writer,
};

/// A request as a client sends it, from the frame's size to its last byte.
///
/// # Panics
/// If the request has no such version.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Result<Bytes, EncodeError> {
    let header = RequestHeader {
        api_key: R::KEY.code(),
        api_version: version,
        correlation_id,
        client_id: client_id.map(ByteString::from),
    };
    let mut w = Writer::new();
    w.write_i32(0);
    header.encode(&mut w);
    request.encode(&mut w, version);
    w.fill_frame_size();
    w.finish_contiguous()
}

/// The correlation id and the body of the response to a request `R` of `version`; `frame` comes without its size.
pub fn decode_response<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), DecodeError> {
    let mut r = Reader::new(frame);
    let header = ResponseHeader::decode(&mut r, R::KEY.response_header_version(version))?;
    Ok((header.correlation_id, R::Response::decode(&mut r, version)?))
}

/// A response as a server sends it, from the frame's size (gaps included) to its last byte, in the pieces that
/// [`Writer::finish`] describes. `header_version` is [`crate::ApiKey::response_header_version`]'s.
///
/// # Panics
/// If the response has no such version.
pub fn encode_response<M: Message>(
    header_version: i16,
    correlation_id: i32,
    version: i16,
    response: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut w = Writer::new();
    w.write_i32(0);
    ResponseHeader { correlation_id }.encode(&mut w, header_version);
    response.encode(&mut w, version);
    w.fill_frame_size();
    w.finish()
}
