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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
    use crate::create_topics::CreateTopicsRequest;
    use crate::delete_topics::DeleteTopicsResponse;
    use crate::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
    use crate::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
    use crate::produce::{
        LeaderIdAndEpoch, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
    };
    use crate::{ApiKey, Records};

    fn body<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
        let mut w = Writer::new();
        message.encode(&mut w, version);
        w.finish_contiguous()
    }

    #[test]
    fn a_request_is_size_header_and_body() {
        let request = ApiVersionsRequest {
            client_software_name: "x".into(),
            client_software_version: "1".into(),
        };
        let frame = encode_request(7, Some("me"), 3, &request).unwrap();
        assert_eq!(
            frame[..],
            *b"\0\0\0\x12\0\x12\0\x03\0\0\0\x07\0\x02me\0\x02x\x021\0"
        );
    }

    /// KIP-511: the header of this response has no tagged fields, the body of version 3 has.
    #[test]
    fn an_api_versions_response_has_the_oldest_header() {
        let response = ApiVersionsResponse {
            error_code: 35,
            ..Default::default()
        };
        let pieces = encode_response(
            ApiKey::ApiVersions.response_header_version(3),
            7,
            3,
            &response,
        )
        .unwrap();
        assert_eq!(pieces, [&b"\0\0\0\x0c\0\0\0\x07\0\x23\x01\0\0\0\0\0"[..]]);
        let read = decode_response::<ApiVersionsRequest>(pieces[0].slice(4..), 3).unwrap();
        assert_eq!(read, (7, response));
    }

    #[test]
    fn deferred_records_leave_gaps_that_the_size_counts() {
        let partition = |partition_index, records| PartitionData {
            partition_index,
            records,
            ..Default::default()
        };
        let response = |first, second| FetchResponse {
            responses: vec![FetchableTopicResponse {
                partitions: vec![
                    partition(0, first),
                    partition(1, Records::Null),
                    partition(2, second),
                ],
                ..Default::default()
            }],
            ..Default::default()
        };
        let contents = [Bytes::from(vec![1; 300]), Bytes::from(vec![2; 70_000])];
        let deferred = response(
            Records::Deferred { len: 300 },
            Records::Deferred { len: 70_000 },
        );
        let inline = response(
            Records::Inline(contents[0].clone()),
            Records::Inline(contents[1].clone()),
        );
        for version in FetchResponse::VERSIONS {
            let header_version = ApiKey::Fetch.response_header_version(version);
            let pieces = encode_response(header_version, 1, version, &deferred).unwrap();
            assert_eq!(pieces.len(), 3);
            let sent = [
                &pieces[0],
                &contents[0],
                &pieces[1],
                &contents[1],
                &pieces[2],
            ]
            .map(|b| &b[..])
            .concat();
            let whole = encode_response(header_version, 1, version, &inline).unwrap();
            assert_eq!(sent, whole[0], "version {version}");
            assert_eq!(sent[..4], (sent.len() as u32 - 4).to_be_bytes());
            assert_eq!(
                decode_response::<FetchRequest>(whole[0].slice(4..), version)
                    .unwrap()
                    .1,
                inline
            );
        }
    }

    /// "Only validate" must not be lost on the way to a broker that does not know it.
    #[test]
    fn a_request_says_all_or_fails() {
        let request = CreateTopicsRequest {
            validate_only: true,
            ..Default::default()
        };
        assert_eq!(
            body(&request, 0),
            Err(EncodeError::UnsupportedField {
                field: "CreateTopicsRequest::validate_only",
                version: 0
            })
        );
        assert!(body(&request, 1).is_ok());

        let ignorable = ApiVersionsRequest {
            client_software_name: "x".into(),
            ..Default::default()
        };
        assert_eq!(body(&ignorable, 0).unwrap(), b""[..]);
        let ignorable = FetchRequest {
            cluster_id: Some("c".into()),
            ..Default::default()
        };
        assert!(body(&ignorable, 11).is_ok());
    }

    #[test]
    fn a_response_leaves_out_what_its_version_lacks() {
        let response = |current_leader| ProduceResponse {
            responses: vec![TopicProduceResponse {
                partition_responses: vec![PartitionProduceResponse {
                    current_leader,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let leader = LeaderIdAndEpoch {
            leader_id: 1,
            leader_epoch: 2,
        };
        let (with, without) = (response(leader), response(LeaderIdAndEpoch::default()));
        assert_eq!(body(&with, 9), body(&without, 9));
        assert_ne!(body(&with, 10), body(&without, 10));
    }

    /// The oracle does not check this, so here are all fields that are not nullable from their first version on.
    #[test]
    fn null_is_refused_where_the_version_has_none() {
        fn nullable_from<M: Message>(first: i16, message: M) {
            let version = first - 1;
            assert_eq!(
                body(&message, version),
                Err(EncodeError::UnexpectedNull { version }),
                "{}",
                M::NAME
            );
            assert!(body(&message, first).is_ok(), "{}", M::NAME);
        }
        let topics = Some(vec![MetadataRequestTopic::default()]);
        nullable_from(
            1,
            MetadataRequest {
                topics: None,
                ..Default::default()
            },
        );
        nullable_from(
            10,
            MetadataRequest {
                topics,
                ..Default::default()
            },
        );
        nullable_from(
            12,
            MetadataResponse {
                topics: vec![Default::default()],
                ..Default::default()
            },
        );
        nullable_from(
            6,
            DeleteTopicsResponse {
                responses: vec![Default::default()],
                ..Default::default()
            },
        );
    }

    #[test]
    fn a_string_too_long_for_its_length_field_is_an_error() {
        let request = ApiVersionsRequest::default();
        let client_id = "x".repeat(40_000);
        let result = encode_request(1, Some(&client_id), 0, &request);
        assert_eq!(result, Err(EncodeError::TooLong { length: 40_000 }));
    }

    #[test]
    fn a_version_that_is_not_there_is_an_error_to_read() {
        let read = decode_response::<ApiVersionsRequest>(Bytes::from_static(&[0; 20]), 5);
        assert_eq!(
            read,
            Err(DecodeError::UnsupportedVersion {
                message: "ApiVersionsResponse",
                version: 5
            })
        );
    }
}
