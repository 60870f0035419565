//! The port on which the other members are heard, and the way to them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::Ensemble;
use crate::node::{Alone, BATCH_MAX_LEN};
use crate::raft::grpc::{self, GrpcTransport, QuorumTls};
use crate::raft::{Service, Transport};
use crate::server::tls;

/// This member's end of the network between the members.
pub(super) struct Quorum {
    listener: Option<TcpListener>,
    tls: Option<QuorumTls>,
}

impl Quorum {
    /// Listens, unless this is a server by itself.
    pub(super) async fn bind(ensemble: &Ensemble) -> anyhow::Result<Quorum> {
        let Some(me) = ensemble.me().filter(|_| !ensemble.standalone) else {
            return Ok(Quorum {
                listener: None,
                tls: None,
            });
        };
        let listener = match ensemble.listen_on_all_ips {
            true => listen_everywhere(me.quorum_port).await,
            false => TcpListener::bind((me.host.as_str(), me.quorum_port)).await,
        };
        let listener = listener.with_context(|| {
            format!(
                "cannot listen on {}:{} (server.{})",
                me.host, me.quorum_port, ensemble.my_id
            )
        })?;
        Ok(Quorum {
            listener: Some(listener),
            tls: ensemble.tls.as_ref().map(tls::quorum).transpose()?,
        })
    }

    /// The way to the others.
    pub(super) fn transport(&self) -> Arc<dyn Transport> {
        match self.listener {
            Some(_) => Arc::new(GrpcTransport::new(self.tls.clone(), BATCH_MAX_LEN)),
            None => Arc::new(Alone),
        }
    }

    /// Hands in what arrives, until the listener fails.
    pub(super) async fn serve(self, service: Service) -> anyhow::Result<()> {
        match self.listener {
            Some(listener) => grpc::serve(listener, service, self.tls, BATCH_MAX_LEN)
                .await
                .context("the other members cannot be heard any more"),
            None => std::future::pending().await,
        }
    }
}

/// On IPv6 and IPv4, or on IPv4 alone where there is no other.
async fn listen_everywhere(port: u16) -> std::io::Result<TcpListener> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(any).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}
