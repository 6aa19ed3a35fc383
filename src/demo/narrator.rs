//! The story as it is told: one readable line a step, with how long it took.

use mimi_operator::output;
use serde_json::json;
use std::time::Instant;

/// Tells what happened.
pub(super) struct Narrator {
    json: bool,
    began: Instant,
    last: Instant,
    steps: usize,
}

impl Narrator {
    pub(super) fn new(json: bool) -> Self {
        let now = Instant::now();
        Self {
            json,
            began: now,
            last: now,
            steps: 0,
        }
    }

    /// Tells one step; its time is what has passed since the one before.
    pub(super) fn step(&mut self, what: &str) -> anyhow::Result<()> {
        let ms = self.last.elapsed().as_millis();
        self.steps += 1;
        if self.json {
            output::json(&json!({ "step": self.steps, "what": what, "ms": ms }))?;
        } else {
            output::line(&format!("{:>2}. {what}  ({ms} ms)", self.steps));
        }
        self.last = Instant::now();
        Ok(())
    }

    /// Shows something that belongs to the step before.
    pub(super) fn line(&self, text: &str) -> anyhow::Result<()> {
        if self.json {
            return output::json(&json!({ "show": text }));
        }
        text.lines()
            .for_each(|line| output::line(&format!("      {line}")));
        Ok(())
    }

    /// Ends the story; it is told only if everything was verified.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        if self.json {
            return output::json(
                &json!({ "verified": true, "steps": self.steps, "seconds": seconds }),
            );
        }
        output::line(&format!("verified, {seconds:.1} s"));
        Ok(())
    }
}
