//! HTTP for those who look after the broker: is it alive, is it ready, how is it doing.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::api::Services;

/// Serves until the task is aborted.
///
/// # Errors
/// The listener has failed.
pub async fn serve(listener: TcpListener, services: Arc<Services>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(services);
    axum::serve(listener, router).await
}

/// Ready is who knows the cluster, and so answers clients.
async fn readyz(State(services): State<Arc<Services>>) -> Response {
    if *services.replicas.ready().borrow() {
        "ok\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for the controller's metadata\n",
        )
            .into_response()
    }
}

async fn metrics(State(services): State<Arc<Services>>) -> Response {
    let mut text = String::new();
    match write_metrics(&services, &mut text) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What is counted as it happens is read, all else is looked up now.
fn write_metrics(services: &Services, text: &mut String) -> fmt::Result {
    let (mut replicas, mut leaders, mut under_replicated, mut offline) =
        (0_i64, 0_i64, 0_i64, 0_i64);
    for replica in services.replicas.replicas() {
        replicas += 1;
        offline += i64::from(replica.is_failed());
        replica.inspect(|core| {
            leaders += i64::from(core.is_leader());
            under_replicated += i64::from(core.is_under_replicated());
        });
    }
    let image = services.image();
    let controller = image.controller_id() == Some(services.config.broker_id);
    let gauges = [
        ("replicas", "Replicas that this broker holds", replicas),
        ("leaders", "Partitions that this broker leads", leaders),
        (
            "under_replicated_partitions",
            "Partitions led here whose ISR lacks a replica",
            under_replicated,
        ),
        (
            "offline_replicas",
            "Replicas here whose log has failed",
            offline,
        ),
        (
            "active_controller",
            "1 if this broker is the controller that it heard of last",
            i64::from(controller),
        ),
        (
            "live_brokers",
            "Brokers that the controller knows",
            image.brokers().len() as i64,
        ),
        (
            "topics",
            "Topics in the cluster",
            image.topics().len() as i64,
        ),
    ];
    let counters = [
        (
            "records_in_bytes",
            "Bytes of record batches appended for clients",
            services.traffic().produced_bytes(),
        ),
        (
            "records_out_bytes",
            "Bytes of record batches sent",
            services.traffic().fetched_bytes(),
        ),
    ];
    let mut registry = Registry::with_prefix("kafka_broker");
    for (name, help, value) in gauges {
        registry.register(name, help, ConstGauge::<i64>::new(value));
    }
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::<u64>::new(value));
    }
    encode(text, &registry)
}
