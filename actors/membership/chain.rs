//! Whether a node is the one that was known: each start names the starts before it.
//!
//! A node that comes back with an empty disk, an older copy of its disk, or a copy that runs beside it would vote against
//! what it has forgotten. So each start draws a random id and keeps it in the data directory, behind those of the starts
//! before. Whoever speaks to a node remembers, durably and before it speaks, the start that the node was in. Later the
//! node is the one that was known if its directory has been in that start. A copy that was taken earlier has not: however
//! often it is started, it cannot draw the id that the true directory drew. The true directory has, also when a copy ran
//! in between, for a copy that is refused leaves nothing behind.
//!
//! Not noticed here: a copy whose node has not been spoken to since it was taken. Nobody else knows more than it does.

use serde::{Deserialize, Serialize};

/// The id of a start: sixteen random bytes.
pub type StartId = [u8; 16];

/// Starts that a directory remembers, at most. A node that was started more often while another was away is refused by
/// that other one.
pub const STARTS_MAX: usize = 512;

/// What is remembered of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Made with its data directory.
    pub incarnation: [u8; 16],
    /// The start that it was in; unknown for one that was remembered by a release before 0.2.
    #[serde(default)]
    pub start: Option<StartId>,
    /// It was let go: its number is never used again.
    pub left: bool,
}

/// How a node that is known shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// In the start in which it was known.
    Same,
    /// For the first time, or in a later start: remember it.
    Later(Seen),
}

/// Why a node is not the one that was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTheOne {
    /// It was let go.
    Left,
    /// It has another data directory.
    OtherDisk,
    /// Its data directory has never been in the start in which the node was known.
    OtherPast,
}

/// Judges a node that shows a data directory and the starts that the directory has been in, the present one last.
///
/// # Errors
/// [`NotTheOne`] says why it is not the one that was known.
pub fn judge(
    known: Option<&Seen>,
    incarnation: [u8; 16],
    starts: &[StartId],
) -> Result<Shown, NotTheOne> {
    let now = Seen {
        incarnation,
        start: starts.last().copied(),
        left: false,
    };
    let Some(known) = known else {
        return Ok(Shown::Later(now));
    };
    if known.left {
        return Err(NotTheOne::Left);
    }
    if known.incarnation != incarnation {
        return Err(NotTheOne::OtherDisk);
    }
    let Some(start) = known.start else {
        return Ok(Shown::Later(now));
    };
    if starts.last() == Some(&start) {
        return Ok(Shown::Same);
    }
    if starts.contains(&start) {
        return Ok(Shown::Later(now));
    }
    Err(NotTheOne::OtherPast)
}

/// The starts of a directory after one more: the oldest are forgotten.
#[must_use]
pub fn started(mut starts: Vec<StartId>, now: StartId) -> Vec<StartId> {
    starts.push(now);
    let gone = starts.len().saturating_sub(STARTS_MAX);
    starts.drain(..gone);
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: [u8; 16] = [7; 16];

    fn start(number: u8) -> StartId {
        [number; 16]
    }

    /// What is remembered after a node was let in.
    fn let_in(known: Option<Seen>, starts: &[StartId]) -> Seen {
        match judge(known.as_ref(), DISK, starts).unwrap() {
            Shown::Same => known.unwrap(),
            Shown::Later(seen) => seen,
        }
    }

    #[test]
    fn an_older_copy_stays_out_however_often_it_is_started_and_the_true_disk_comes_back_in() {
        let copy = vec![start(1)];
        let truth = started(copy.clone(), start(2));
        let known = let_in(Some(let_in(None, &copy)), &truth);
        let mut copied = copy;
        for again in 10..20 {
            copied = started(copied, start(again));
            let judged = judge(Some(&known), DISK, &copied);
            assert_eq!(judged, Err(NotTheOne::OtherPast));
        }
        assert_eq!(judge(Some(&known), DISK, &truth), Ok(Shown::Same));
        let later = started(started(truth, start(3)), start(4));
        assert_eq!(let_in(Some(known), &later).start, Some(start(4)));
    }

    #[test]
    fn a_node_that_was_let_go_or_has_another_disk_stays_out() {
        let starts = [start(1)];
        let known = let_in(None, &starts);
        let other = judge(Some(&known), [8; 16], &starts);
        assert_eq!(other, Err(NotTheOne::OtherDisk));
        let left = Seen {
            left: true,
            ..known
        };
        for disk in [DISK, [8; 16]] {
            assert_eq!(judge(Some(&left), disk, &starts), Err(NotTheOne::Left));
        }
    }

    #[test]
    fn starts_that_nobody_saw_change_nothing_until_there_are_too_many_to_remember() {
        let known = let_in(None, &[start(1)]);
        let mut starts = vec![start(1)];
        for _ in 1..STARTS_MAX {
            starts = started(starts, start(2));
        }
        assert!(judge(Some(&known), DISK, &starts).is_ok());
        starts = started(starts, start(2));
        assert_eq!(starts.len(), STARTS_MAX);
        assert_eq!(
            judge(Some(&known), DISK, &starts),
            Err(NotTheOne::OtherPast)
        );
    }

    #[test]
    fn what_an_earlier_release_remembered_is_gone_on_from() {
        let known = Seen {
            incarnation: DISK,
            start: None,
            left: false,
        };
        assert_eq!(let_in(Some(known), &[start(5)]).start, Some(start(5)));
    }
}
