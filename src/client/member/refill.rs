//! KeyPackages in stock: what the provider says of them, and new ones when few are left.

use super::{Member, MemberError, PackageOptions};
use mimi_actors::wire::post::Note;

/// What the provider asked for and was not done yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// More packages: how many are left.
    pub(super) packages: Option<u32>,
    /// Another last-resort package.
    pub(super) last_resort: bool,
}

impl Member {
    /// Keeps `count` KeyPackages in stock from now on: when the provider says that few are left, more are uploaded, and
    /// when a last-resort package was given, another is.
    pub fn keep_stock(&mut self, count: usize) {
        self.keeps = Some(count);
    }

    /// What the provider said of KeyPackages since the start, oldest first.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter()
    }

    /// Uploads what the provider asked for, if that is wished.
    pub(super) async fn refill(&mut self) -> Result<(), MemberError> {
        let Some(count) = self.keeps else {
            return Ok(());
        };
        if let Some(left) = self.wants.packages {
            let more = count.saturating_sub(left as usize);
            self.upload(more).await?;
            self.wants.packages = None;
        }
        if self.wants.last_resort {
            let options = PackageOptions {
                last_resort: true,
                ..PackageOptions::default()
            };
            self.upload_with(1, &options).await?;
            self.wants.last_resort = false;
        }
        Ok(())
    }
}
