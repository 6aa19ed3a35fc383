//! `demo`: three providers on this machine tell the requirements' own story, and everything it claims is checked.
//!
//! Real processes, real QUIC, real MLS members, a real kill -9.
//!
//! Source: transport requirements, section 3.1.

mod cast;
mod narrator;
mod proxy;
mod stage;
mod story;
mod verify;

use anyhow::Context;
use narrator::Narrator;
use stage::Stage;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Print one line of JSON for each step, and a last one with the verdict
    #[arg(long)]
    json: bool,
    /// Leave the providers running afterwards, and say how to look around
    #[arg(long)]
    keep: bool,
}

impl Demo {
    /// Tells the story.
    ///
    /// # Errors
    /// When a step fails or anything it claims does not hold.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.tell())
    }

    async fn tell(self) -> anyhow::Result<()> {
        let mut narrator = Narrator::new(self.json);
        let mut stage = Stage::build().await.context("build the stage")?;
        narrator
            .step("three providers are up: a.example, b.example and c.example, one process each")?;
        let told = story::tell(&mut stage, &mut narrator).await;
        if let Err(error) = told {
            let kept = stage.keep_files();
            return Err(error.context(format!(
                "the story broke off; the logs are in {}",
                kept.display()
            )));
        }
        narrator.verdict()?;
        if self.keep {
            narrator.line(&stage.how_to_look_around())?;
            tokio::signal::ctrl_c().await?;
        }
        stage.end().await
    }
}
