//! `demo`: three providers on this machine tell the requirements' own story, and everything it claims is checked.
//!
//! Real processes, real QUIC, real MLS members, a real kill -9.
//!
//! Source: transport requirements, section 3.1.

mod narrator;
mod story;
mod verify;

use anyhow::Context;
use mimi_operator::output;
use mimi_stage::Stage;
use narrator::Narrator;
use std::path::Path;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Print one line of JSON for each step, and a last one with the verdict
    #[arg(long)]
    json: bool,
    /// Nodes of each provider: 1, or 3 to 5; of several, the leader of the room's shard is killed in mid-Commit
    #[arg(long, default_value_t = 1, value_parser = nodes)]
    nodes: u64,
    /// Leave the providers running afterwards, and say how to look around
    #[arg(long)]
    keep: bool,
}

/// Of two nodes the one that is left has no majority, and the story cannot go on.
fn nodes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(nodes @ (1 | 3..=5)) => Ok(nodes),
        Ok(2) => Err("of 2 nodes no majority is left when one is killed; 1, or 3 to 5".to_owned()),
        Ok(_) | Err(_) => Err("1, or 3 to 5".to_owned()),
    }
}

impl Demo {
    /// Tells the story, with processes of `program`, which is the node's.
    ///
    /// # Errors
    /// When a step fails or anything it claims does not hold.
    pub fn run(self, program: &Path) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(output::while_read(self.tell(program)))
    }

    async fn tell(self, program: &Path) -> anyhow::Result<()> {
        let mut narrator = Narrator::new(self.json);
        let mut stage = Stage::build(program, &['a', 'b', 'c'], self.nodes, Some(('a', 'c')))
            .await
            .context("build the stage")?;
        let each = match self.nodes {
            1 => "one process each".to_owned(),
            nodes => format!("{nodes} nodes each"),
        };
        narrator.step(&format!(
            "three providers are up: a.example, b.example and c.example, {each}"
        ))?;
        let told = story::tell(&mut stage, &mut narrator, self.nodes > 1).await;
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
