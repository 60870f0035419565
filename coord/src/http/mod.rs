//! The administrator's HTTP: commands as of ZooKeeper's AdminServer, `/metrics` for Prometheus, `/livez` and `/readyz`.

mod commands;
mod listener;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::http::listener::FewListener;
use crate::server::Inspector;
use crate::stats::{self, ServerState};

/// Serves what the configuration asks for, until the runtime ends.
pub(crate) async fn start(inspector: Arc<Inspector>) -> anyhow::Result<()> {
    if let Some(admin) = &inspector.config.admin {
        let url = admin.command_url.clone();
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route(&url, get(list))
            .route(&format!("{url}/"), get(list))
            .route(&format!("{url}/{{command}}"), get(command))
            .merge(metrics())
            .with_state(inspector.clone());
        serve(admin.address, "admin.serverPort", router).await?;
    }
    if let Some(address) = inspector.config.metrics_address {
        let router = metrics().with_state(inspector.clone());
        serve(address, "metricsProvider.httpPort", router).await?;
    }
    Ok(())
}

async fn serve(address: SocketAddr, key: &'static str, router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({key})"))?;
    tracing::info!("{key} {}", listener.local_addr()?);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(FewListener::new(listener), router).await {
            tracing::error!("http on {address} has ended: {error}");
        }
    });
    Ok(())
}

fn metrics() -> Router<Arc<Inspector>> {
    let metrics = |State(inspector): State<Arc<Inspector>>| async move {
        let content_type = "text/plain; version=0.0.4; charset=utf-8";
        inspector.count_members().await;
        let text = stats::prometheus(&inspector.stats);
        ([(header::CONTENT_TYPE, content_type)], text)
    };
    Router::new().route("/metrics", get(metrics))
}

/// Ready is who is in touch with a leader, or leads.
async fn ready(State(inspector): State<Arc<Inspector>>) -> impl IntoResponse {
    match inspector.stats.state() {
        ServerState::NotServing | ServerState::ReadOnly => {
            (StatusCode::SERVICE_UNAVAILABLE, "no leader is in reach\n")
        }
        _ => (StatusCode::OK, "ok\n"),
    }
}

async fn list(State(inspector): State<Arc<Inspector>>) -> Html<String> {
    let admin = inspector.config.admin.as_ref();
    let url = admin.map_or("", |admin| admin.command_url.as_str());
    let link = |name: &str| format!("<a href=\"{url}/{name}\">{name}</a>\n<br/>\n");
    Html(commands::names().map(link).collect())
}

async fn command(
    State(inspector): State<Arc<Inspector>>,
    Path(name): Path<String>,
) -> impl IntoResponse {
    let answer = commands::run(&name, &inspector).await;
    // A map of plain values can always be written.
    let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text)
}
