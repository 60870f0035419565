//! `/livez`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::routing::get;

use crate::stats::Stats;

/// Serves on `address` until the runtime ends. Once this is up recovery is over, so ready is alive.
pub(crate) async fn start(address: SocketAddr, stats: Arc<Stats>) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (admin.serverPort)"))?;
    tracing::info!("http on {}", listener.local_addr()?);
    let ok = || async { "ok\n" };
    let router = Router::new()
        .route("/livez", get(ok))
        .route("/readyz", get(ok))
        .route("/metrics", get(move || async move { stats.metrics() }));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("http on {address} has ended: {error}");
        }
    });
    Ok(())
}
