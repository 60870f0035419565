//! The headers before each request and response.

use bytestring::ByteString;

use crate::wire::{Form, Wire};
use crate::{ApiKey, DecodeError, Reader, Writer};

/// What comes before every request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API's number; raw, for it may be one that nobody knows.
    pub api_key: i16,
    /// The version of the request's and the response's body.
    pub api_version: i16,
    /// Chosen by the client; the response bears it too.
    pub correlation_id: i32,
    /// The client's name for itself, for logs and quotas.
    pub client_id: Option<ByteString>,
}

/// The client id has an int16 length in all versions, flexible ones too.
const CLIENT_ID: Form = Form {
    version: 0,
    flexible: false,
    nullable: true,
};

impl RequestHeader {
    /// Reads a request's header.
    ///
    /// Of a key or version that Kafka 3.9 does not have, only the first three fields are read, since nobody knows what
    /// follows them; the client id is `None` then. So an ApiVersions request of a version yet to come can be answered
    /// (with UNSUPPORTED_VERSION and what we do speak), and anything else refused.
    pub fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let api_key = r.read_i16()?;
        let api_version = r.read_i16()?;
        let correlation_id = r.read_i32()?;
        let mut header = Self {
            api_key,
            api_version,
            correlation_id,
            client_id: None,
        };
        let Ok(key) = ApiKey::try_from(api_key) else {
            return Ok(header);
        };
        if !(0..=key.latest_version()).contains(&api_version) {
            return Ok(header);
        }
        let header_version = key.request_header_version(api_version);
        if header_version >= 1 {
            header.client_id = Wire::decode(r, CLIENT_ID)?;
        }
        if header_version >= 2 {
            r.skip_tagged_fields()?;
        }
        Ok(header)
    }

    /// Writes a request's header; one of an unknown key gets the layout of classic requests.
    pub fn encode(&self, w: &mut Writer) {
        let header_version = ApiKey::try_from(self.api_key)
            .map_or(1, |key| key.request_header_version(self.api_version));
        w.write_i16(self.api_key);
        w.write_i16(self.api_version);
        w.write_i32(self.correlation_id);
        if header_version >= 1 {
            self.client_id.encode(w, CLIENT_ID);
        }
        if header_version >= 2 {
            w.write_unsigned_varint(0);
        }
    }
}

/// What comes before every response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The request's.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads a response's header of the version that [`ApiKey::response_header_version`] gives.
    pub fn decode(r: &mut Reader, header_version: i16) -> Result<Self, DecodeError> {
        let correlation_id = r.read_i32()?;
        if header_version >= 1 {
            r.skip_tagged_fields()?;
        }
        Ok(Self { correlation_id })
    }

    /// Writes a response's header of the version that [`ApiKey::response_header_version`] gives.
    pub fn encode(&self, w: &mut Writer, header_version: i16) {
        w.write_i32(self.correlation_id);
        if header_version >= 1 {
            w.write_unsigned_varint(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn decode(bytes: &'static [u8]) -> (RequestHeader, usize) {
        let mut r = Reader::new(Bytes::from_static(bytes));
        (RequestHeader::decode(&mut r).unwrap(), r.remaining())
    }

    #[test]
    fn client_id_is_classic_even_where_the_request_is_flexible() {
        let (header, left) = decode(&[0, 18, 0, 3, 0, 0, 0, 7, 0, 1, b'c', 0, 0xaa]);
        assert_eq!(header.client_id.as_deref(), Some("c"));
        assert_eq!((header.correlation_id, left), (7, 1));
    }

    #[test]
    fn an_api_versions_request_of_the_future_is_known_by_its_first_eight_bytes() {
        let (header, left) = decode(&[0, 18, 0x7f, 0xff, 0, 0, 0, 9, 0xff, 0xff, 0xff]);
        assert_eq!(ApiKey::try_from(header.api_key), Ok(ApiKey::ApiVersions));
        assert_eq!(
            (header.api_version, header.correlation_id, left),
            (0x7fff, 9, 3)
        );
    }

    #[test]
    fn an_unknown_key_is_no_error_of_the_header() {
        let (header, _) = decode(&[0x7f, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(header.api_key, 0x7f00);
    }

    #[test]
    fn encode_and_decode_agree_on_every_key_and_version() {
        for key in ApiKey::ALL {
            for api_version in 0..=key.latest_version() {
                let client_id = (key.request_header_version(api_version) >= 1)
                    .then(|| ByteString::from_static("me"));
                let header = RequestHeader {
                    api_key: key.code(),
                    api_version,
                    correlation_id: -5,
                    client_id,
                };
                let mut w = Writer::new();
                header.encode(&mut w);
                let mut r = Reader::new(w.finish_contiguous().unwrap());
                assert_eq!(RequestHeader::decode(&mut r).as_ref(), Ok(&header));
                assert_eq!(r.remaining(), 0);
            }
        }
    }
}
