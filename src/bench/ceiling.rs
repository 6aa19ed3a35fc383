//! The ceiling: the same bytes in the same frames over the same QUIC settings between two processes, and nothing else.

use anyhow::Context;
use bytes::Bytes;
use mimi_actors::{ids::ProviderId, limits::LANE_FRAMES_UNACKED_MAX};
use mimi_quic::{
    Identity, Link, LinkEndpoint, PeerTrust,
    issue::{create_ca, create_certificate},
};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// Length of an acknowledgement: a number.
const ACK_BYTES: usize = 8;
/// How long the other process may take to listen.
const READY_DEADLINE: Duration = Duration::from_secs(10);

/// The receiving process: listens, prints its address, acknowledges every frame.
#[derive(Debug, clap::Args)]
pub(super) struct CeilingPeer {
    /// Directory of the certificates
    #[arg(long)]
    pki: PathBuf,
    /// Largest frame, in bytes
    #[arg(long)]
    frame_bytes: usize,
}

impl CeilingPeer {
    /// Receives until the sender closes.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let endpoint = endpoint(&self.pki, "b.example", "a.example")?;
        mimi_operator::output::line(&endpoint.local_address()?.to_string());
        let link = endpoint
            .accept()
            .await
            .context("a sender")?
            .establish()
            .await?;
        let (mut to, mut from) = link.accept_lane().await?;
        let mut frames: u64 = 0;
        while let Ok(Some(_)) = from.next(self.frame_bytes, None).await {
            frames += 1;
            to.send(Bytes::copy_from_slice(&frames.to_be_bytes()))
                .await?;
        }
        Ok(())
    }
}

/// Messages that raw QUIC carries in a second, `batch` messages of `message_bytes` in a frame.
pub(super) async fn measure(
    program: &Path,
    message_bytes: usize,
    batch: usize,
    duration: Duration,
) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let pki = directory.path();
    create_ca(pki)?;
    for domain in ["a.example", "b.example"] {
        create_certificate(pki, &domain.parse()?, pki)?;
    }
    let frame = Bytes::from(vec![7; message_bytes * batch]);
    let mut peer = Command::new(program)
        .args(["bench", "ceiling-peer", "--pki"])
        .arg(pki)
        .args(["--frame-bytes", &frame.len().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut address = String::new();
    let stdout = peer.stdout.take().context("the peer's output")?;
    let mut lines = BufReader::new(stdout);
    tokio::time::timeout(READY_DEADLINE, lines.read_line(&mut address)).await??;
    let endpoint = endpoint(pki, "a.example", "b.example")?;
    let peer_id: ProviderId = "b.example".parse()?;
    let link = endpoint.connect(address.trim().parse()?, &peer_id).await?;
    let frames = pump(&link, &frame, duration).await?;
    link.close(0, "measured");
    peer.start_kill()?;
    peer.wait().await?;
    Ok(frames * batch as f64)
}

/// Frames acknowledged in a second.
async fn pump(link: &Link, frame: &Bytes, duration: Duration) -> anyhow::Result<f64> {
    let (mut to, mut from) = link.open_lane().await?;
    let (mut sent, mut acked) = (0_u64, 0_u64);
    let began = Instant::now();
    while began.elapsed() < duration {
        while sent - acked < LANE_FRAMES_UNACKED_MAX as u64 {
            to.send(frame.clone()).await?;
            sent += 1;
        }
        let ack = from
            .next(ACK_BYTES, None)
            .await?
            .context("the peer ended")?;
        acked = ack
            .first_chunk()
            .map_or(acked, |bytes| u64::from_be_bytes(*bytes));
    }
    Ok(acked as f64 / began.elapsed().as_secs_f64())
}

fn endpoint(pki: &Path, own: &str, peer: &str) -> anyhow::Result<LinkEndpoint> {
    let (crt, key) = (
        pki.join(format!("{own}.crt")),
        pki.join(format!("{own}.key")),
    );
    let trust = BTreeMap::from([(peer.parse()?, PeerTrust::Ca(pki.join("ca.crt")))]);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(LinkEndpoint::bind(
        any,
        &Identity::load(&crt, &key)?,
        &trust,
    )?)
}
