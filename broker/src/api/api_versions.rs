//! ApiVersions (18): what this broker speaks.

use kafka_wire::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use kafka_wire::{ApiKey, ErrorCode, encode_response};

use super::RequestContext;
use crate::net::{Reply, Response};

/// From this version on clients say what software they are.
const FIRST_WITH_SOFTWARE: i16 = 3;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = is_software_name(&request.client_software_name)
        && is_software_name(&request.client_software_version);
    if ctx.api_version >= FIRST_WITH_SOFTWARE && !named {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest as i16,
            ..ApiVersionsResponse::default()
        };
    }
    let keys = (0..=i8::MAX).filter_map(|code| ApiKey::try_from(i16::from(code)).ok());
    ApiVersionsResponse {
        api_keys: keys.filter_map(api_version).collect(),
        ..ApiVersionsResponse::default()
    }
}

/// The answer to a version that is yet to come: in the oldest form, and just enough to ask again (KIP-511).
pub(super) fn too_high(ctx: &RequestContext) -> Reply {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion as i16,
        api_keys: api_version(ApiKey::ApiVersions).into_iter().collect(),
        ..ApiVersionsResponse::default()
    };
    match encode_response(0, ctx.correlation_id, 0, &response) {
        Ok(chunks) => Reply::Response(Response::new(chunks, Vec::new())),
        Err(error) => Reply::Close(error.to_string()),
    }
}

fn api_version(key: ApiKey) -> Option<ApiVersion> {
    let versions = key.versions()?;
    Some(ApiVersion {
        api_key: key.code(),
        min_version: *versions.start(),
        max_version: *versions.end(),
    })
}

/// Letters, digits, '.' and '-', but the last two neither first nor last.
fn is_software_name(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_letters_digits_dots_and_dashes() {
        assert!(
            is_software_name("apache-kafka-java")
                && is_software_name("2.8.0")
                && is_software_name("x")
        );
        assert!(
            !is_software_name("")
                && !is_software_name("-x")
                && !is_software_name("x.")
                && !is_software_name("a b")
        );
    }

    #[test]
    fn what_librdkafka_looks_for_is_served() {
        let versions = |key| api_version(key).map(|v| (v.min_version, v.max_version));
        assert_eq!(versions(ApiKey::Produce), Some((0, 11)));
        assert_eq!(versions(ApiKey::Fetch), Some((4, 17)));
        assert_eq!(versions(ApiKey::ApiVersions), Some((0, 4)));
    }
}
