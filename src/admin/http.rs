//! What a node shows of itself over HTTP, to its own machine: metrics, whether it lives, whether it is ready.
//!
//! Whoever can connect is answered, so it listens on loopback only (`config`), changes nothing, and takes a bounded
//! number of connections: who holds them all blinds the collectors, not the node. It is up before the log is replayed
//! and until the node has drained, so that a long start or end does not look like a death.

use super::{figures::Figures, listener::Bounded, metrics, ready::Ready};
use crate::quic::holder::{Protocol, holder};
use anyhow::anyhow;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// How long the figures may take to gather.
const FIGURES_DEADLINE: Duration = Duration::from_secs(5);
/// Version 0.0.4 of the text format is what every collector reads.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Takes the address, so that a start fails early where it is taken.
///
/// # Errors
/// When it cannot be had.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let holder = if error.kind() == ErrorKind::AddrInUse {
            holder(Protocol::Tcp, address)
        } else {
            String::new()
        };
        anyhow!("`admin.listen`: listen on TCP {address}: {error}{holder}; set admin.listen to a free address")
    })
}

/// Serves until the node ends.
pub(crate) async fn serve(listener: TcpListener, ready: Arc<Ready>) {
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "metrics and health are shown"),
        Err(error) => tracing::warn!(%error, "metrics and health are shown at an unknown address"),
    }
    let pages = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(show_ready))
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                "there are /metrics, /livez and /readyz\n",
            )
        })
        .with_state(ready);
    if let Err(error) = axum::serve(Bounded::new(listener), pages).await {
        tracing::error!(%error, "metrics and health are not shown any more; restart the node");
    }
}

async fn show_ready(State(ready): State<Arc<Ready>>) -> Response {
    match ready.check() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => unavailable(&why.to_string()),
    }
}

async fn show_metrics(State(ready): State<Arc<Ready>>) -> Response {
    let Some(node) = ready.node() else {
        return unavailable("starting: there are no figures yet");
    };
    let figures = Figures::of(node, ready.check().is_ok());
    match tokio::time::timeout(FIGURES_DEADLINE, figures).await {
        Ok(figures) => (
            [(header::CONTENT_TYPE, PROMETHEUS)],
            metrics::render(&figures),
        )
            .into_response(),
        Err(_) => unavailable("the figures were not gathered in time: the node is overloaded"),
    }
}

fn unavailable(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}
