//! Who this broker is, and of which cluster.

use broker_core::znode::{CLUSTER_ID, ClusterId, DecodeError, SEQUENCE_ID};
use kafka_wire::Uuid;
use zookeeper_client::{Client, Error};

use super::{is_connection_loss, persistent};

/// Why the broker's or the cluster's id cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Coord refuses a request.
    #[error("coord refuses to tell the {what}: {source}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: Error,
    },
    /// Coord's node cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The cluster's id; the first broker of a cluster chooses it.
pub async fn cluster_id(client: &Client) -> Result<String, IdentityError> {
    let refused = |source| IdentityError::Refused {
        what: "cluster's id",
        source,
    };
    loop {
        match client.get_data(CLUSTER_ID).await {
            Ok((data, _)) => return Ok(ClusterId::decode(&data)?.id),
            Err(Error::NoNode) => {}
            Err(error) if is_connection_loss(&error) => continue,
            Err(error) => return Err(refused(error)),
        }
        let node = ClusterId {
            id: random_id().to_string(),
        };
        match client
            .create(CLUSTER_ID, &node.encode(), &persistent())
            .await
        {
            Ok(_) => return Ok(node.id),
            Err(Error::NodeExists) => {}
            Err(error) if is_connection_loss(&error) => {}
            Err(error) => return Err(refused(error)),
        }
    }
}

/// A broker id above the reserved ones (`broker.id=-1`).
pub async fn generate_broker_id(
    client: &Client,
    reserved_broker_max_id: i32,
) -> Result<i32, IdentityError> {
    let refused = |source| IdentityError::Refused {
        what: "next broker id",
        source,
    };
    loop {
        match client.set_data(SEQUENCE_ID, b"", None).await {
            Ok(stat) => return Ok(reserved_broker_max_id.saturating_add(stat.version)),
            // An id that is lost this way is never used.
            Err(error) if is_connection_loss(&error) => {}
            Err(error) => return Err(refused(error)),
        }
    }
}

/// A random UUID whose text does not begin with '-', which tools would take for an option.
fn random_id() -> Uuid {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid::from_bytes(bytes)
}
