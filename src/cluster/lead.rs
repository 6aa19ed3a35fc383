//! Who leads a shard, as this node sees it.

use tokio::sync::watch;

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// This node: a majority heard of it lately, and it has applied whatever any leader before it committed.
    Here,
    /// Another node.
    At(u64),
    /// Nobody who is known.
    Nobody,
}

/// Waits until this node leads; `false` when the shard is gone.
pub(crate) async fn led_here(lead: &mut watch::Receiver<Lead>) -> bool {
    lead.wait_for(|lead| *lead == Lead::Here).await.is_ok()
}

/// Waits until this node does not lead any more.
pub(crate) async fn lost(lead: &mut watch::Receiver<Lead>) {
    // A shard that is gone is not led.
    drop(lead.wait_for(|lead| *lead != Lead::Here).await);
}
