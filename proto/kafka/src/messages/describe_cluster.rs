//! DescribeCluster (60): the brokers and the controller.

use crate::ByteString;
use crate::schema::schema;

schema! {
    request DescribeClusterRequest => DescribeClusterResponse, key DescribeCluster, versions 0..=1, flexible 0..;

    /// Asks who belongs to the cluster.
    struct DescribeClusterRequest {
        /// Whether to tell which operations the client may do on the cluster.
        include_cluster_authorized_operations: bool,
        /// Whom to tell of: 1 brokers, 2 controllers (KIP-919).
        endpoint_type: i8 [1..] = 1,
    }
}

schema! {
    response DescribeClusterResponse, versions 0..=1, flexible 0..;

    /// Who belongs to the cluster.
    struct DescribeClusterResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The error, or 0.
        error_code: i16,
        /// What went wrong, in words.
        error_message: Option<ByteString>,
        /// Who is told of: 1 brokers, 2 controllers.
        endpoint_type: i8 [1..] = 1,
        /// The cluster's id.
        cluster_id: ByteString,
        /// The controller's broker id; -1 if there is none.
        controller_id: i32 = -1,
        /// The brokers that are alive.
        brokers: Vec<DescribeClusterBroker>,
        /// What the client may do on the cluster, as a set of bits; `i32::MIN` if not asked for.
        cluster_authorized_operations: i32 = i32::MIN,
    }

    /// One broker.
    struct DescribeClusterBroker {
        /// The broker's id.
        broker_id: i32,
        /// Its host name, on the listener that was asked.
        host: ByteString,
        /// Its port.
        port: i32,
        /// Its rack.
        rack: Option<ByteString>,
    }
}
