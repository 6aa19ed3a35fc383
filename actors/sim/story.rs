//! What happened, for people: told only when somebody listens.

/// The lines of a story.
#[derive(Debug, Default)]
pub struct Story {
    listening: bool,
    lines: Vec<String>,
}

impl Story {
    /// A story that is written down.
    #[must_use]
    pub fn written() -> Self {
        Self {
            listening: true,
            lines: Vec::new(),
        }
    }

    /// Adds a line, if somebody listens.
    pub(super) fn tell(&mut self, now_ms: u64, line: impl FnOnce() -> String) {
        if self.listening {
            let (seconds, millis) = (now_ms / 1_000, now_ms % 1_000);
            self.lines
                .push(format!("{seconds:>3}.{millis:03}  {}", line()));
        }
    }

    /// The lines, each with its time in seconds.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}
