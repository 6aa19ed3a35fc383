//! The parent of all actors of a node.
//!
//! A fold's panic is caught in its host and freezes that actor alone. An actor that fails in any other way has lost its
//! state, which only the log can give back: the supervisor reports it, and the node stops its shard.

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::watch;

struct Root;

impl Actor for Root {
    type Msg = ();
    type State = watch::Sender<Option<String>>;
    type Arguments = watch::Sender<Option<String>>;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        failed: watch::Sender<Option<String>>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(failed)
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        failed: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(who, why) = event {
            let why = format!("actor {} failed: {why}", who.get_id());
            tracing::error!("{why}");
            failed.send_replace(Some(why));
        }
        Ok(())
    }
}

/// The root of the supervision tree.
pub struct Supervisor {
    actor: ActorRef<()>,
    failed: watch::Receiver<Option<String>>,
}

impl Supervisor {
    /// Begins the tree.
    ///
    /// # Errors
    /// When the runtime cannot start it.
    pub async fn start() -> Result<Self, SpawnErr> {
        let (failing, failed) = watch::channel(None);
        let (actor, _join) = Actor::spawn(None, Root, failing).await?;
        Ok(Self { actor, failed })
    }

    /// The parent for a new actor.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Waits until an actor has failed, and says how.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the supervisor has ended".to_owned(),
        }
    }
}
