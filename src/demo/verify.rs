//! What was acknowledged, who should have read it, and whether they did: exactly once, and nobody else.

use anyhow::{Context, ensure};
use mimi_actors::{
    ids::RoomUri,
    wire::{
        claim::ClaimResponse,
        event::{ClientSeq, Verdict},
    },
};
use mimi_client::member::Member;
use mimi_stage::cast::Cast;
use std::{collections::BTreeMap, fmt::Write as _};

/// A message that a provider acknowledged.
struct Acknowledged {
    sender: String,
    number: ClientSeq,
    text: String,
    entitled: Vec<String>,
}

/// Every message of the story.
#[derive(Default)]
pub(super) struct Ledger {
    acknowledged: Vec<Acknowledged>,
    refused: Vec<String>,
}

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Sends texts and notes that they were acknowledged, and who is entitled to read them.
    pub(super) async fn send(
        &mut self,
        cast: &mut Cast,
        room: &RoomUri,
        sender: &str,
        texts: &[String],
        entitled: &[String],
    ) -> anyhow::Result<()> {
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let sent = cast.get(sender)?.send(room, &borrowed).await;
        let first = sent.with_context(|| format!("{sender} sends"))?;
        for (offset, text) in (0..).zip(texts) {
            self.note(cast, sender, first.plus(offset), text, entitled)?;
        }
        Ok(())
    }

    /// Notes one acknowledged message.
    pub(super) fn note(
        &mut self,
        cast: &mut Cast,
        sender: &str,
        number: ClientSeq,
        text: &str,
        entitled: &[String],
    ) -> anyhow::Result<()> {
        cast.get(sender)?;
        let (sender, text, entitled) = (sender.to_owned(), text.to_owned(), entitled.to_vec());
        self.acknowledged.push(Acknowledged {
            sender,
            number,
            text,
            entitled,
        });
        Ok(())
    }

    /// Notes a message that nobody must have read.
    pub(super) fn refused(&mut self, text: &str) {
        self.refused.push(text.to_owned());
    }

    /// Waits until everybody in `names` has read what they are entitled to.
    pub(super) async fn delivered(
        &self,
        cast: &mut Cast,
        room: &RoomUri,
        names: &[String],
    ) -> anyhow::Result<()> {
        for name in names {
            let due = self
                .acknowledged
                .iter()
                .filter(|message| message.entitled.contains(name))
                .count();
            cast.until(std::slice::from_ref(name), |member| {
                member.received(room).len() >= due
            })
            .await?;
        }
        Ok(())
    }
}

/// Every member shows the same epoch authenticator.
pub(super) fn same_authenticator(
    cast: &Cast,
    room: &RoomUri,
    names: &[String],
) -> anyhow::Result<String> {
    let shown: BTreeMap<&String, Option<Vec<u8>>> = cast
        .iter()
        .filter(|(name, _)| names.contains(name))
        .map(|(name, member)| (name, member.epoch_authenticator(room)))
        .collect();
    let first = shown
        .values()
        .next()
        .cloned()
        .flatten()
        .context("somebody is a member")?;
    for (name, authenticator) in &shown {
        ensure!(
            authenticator.as_ref() == Some(&first),
            "{name} shows another epoch authenticator than the others"
        );
    }
    Ok(first
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Checks everything, and says so in a table.
pub(super) fn closing(cast: &mut Cast, room: &RoomUri, ledger: &Ledger) -> anyhow::Result<String> {
    let members: Vec<String> = cast
        .members(room)
        .into_iter()
        .filter(|name| name != "carl1")
        .collect();
    let authenticator = same_authenticator(cast, room, &members)?;
    let mut table = format!(
        "{:<8} {:>5} {:>8} {:>6} {:>5} {:>7}\n",
        "device", "epoch", "entitled", "read", "lost", "doubled"
    );
    let readers: Vec<String> = cast.iter().map(|(name, _)| name.clone()).collect();
    for name in readers {
        let member = cast.get(&name)?;
        let row = reader(member, &name, room, ledger)?;
        if row.entitled > 0 {
            let epoch = member
                .epoch(room)
                .map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
            let Row {
                entitled,
                read,
                lost,
                doubled,
            } = row;
            writeln!(
                table,
                "{name:<8} {epoch:>5} {entitled:>8} {read:>6} {lost:>5} {doubled:>7}"
            )?;
        }
    }
    accepted(cast, room, ledger)?;
    write!(
        table,
        "{} messages acknowledged and accepted, {} refused and read by nobody; epoch authenticator {authenticator} \
         on all {} members",
        ledger.acknowledged.len(),
        ledger.refused.len(),
        members.len(),
    )?;
    Ok(table)
}

struct Row {
    entitled: usize,
    read: usize,
    lost: usize,
    doubled: usize,
}

/// Checks one device: what it was entitled to once, and nothing else.
fn reader(member: &Member, name: &str, room: &RoomUri, ledger: &Ledger) -> anyhow::Result<Row> {
    let read = member.received(room);
    let times = |text: &str| read.iter().filter(|seen| **seen == text).count();
    let owed = ledger
        .acknowledged
        .iter()
        .filter(|message| message.entitled.iter().any(|to| to == name));
    let mut row = Row {
        entitled: 0,
        read: read.len(),
        lost: 0,
        doubled: 0,
    };
    for message in owed {
        row.entitled += 1;
        match times(&message.text) {
            0 => row.lost += 1,
            1 => {}
            _ => row.doubled += 1,
        }
    }
    ensure!(
        row.lost == 0,
        "{name} lost {} of {} messages",
        row.lost,
        row.entitled
    );
    ensure!(
        row.doubled == 0,
        "{name} read {} messages more than once",
        row.doubled
    );
    ensure!(
        row.read == row.entitled,
        "{name} read {} messages, {} are due",
        row.read,
        row.entitled
    );
    for text in &ledger.refused {
        let own = member.client().client() == name && name == "carl1";
        ensure!(
            own || times(text) == 0,
            "{name} read a refused message: {text}"
        );
    }
    let counts = member.counts();
    ensure!(
        counts.gaps == 0 && counts.faults == 0,
        "{name} saw gaps or faults: {counts:?}"
    );
    Ok(row)
}

/// Every acknowledged message has the verdict that it was accepted.
fn accepted(cast: &mut Cast, room: &RoomUri, ledger: &Ledger) -> anyhow::Result<()> {
    for message in &ledger.acknowledged {
        let verdicts = cast.get(&message.sender)?.verdicts(room);
        let word = verdicts
            .iter()
            .find(|(number, _)| *number == message.number);
        let accepted = matches!(word, Some((_, Verdict::Accepted { .. })));
        ensure!(
            accepted,
            "{} has no verdict on {:?}: {word:?}",
            message.sender,
            message.text
        );
    }
    Ok(())
}

/// The table of a claim's results, as the requirements print it.
pub(super) fn claim_table(claimed: &ClaimResponse) -> String {
    let mut table = String::new();
    for user in &claimed.users {
        // Writing to a String does not fail.
        let _ = match &user.result {
            Err(refused) => writeln!(table, "* {}: {refused}", user.user.user()),
            Ok(clients) => {
                let _ = writeln!(table, "* {}", user.user.user());
                clients.iter().try_for_each(|client| match &client.result {
                    Ok(_) => writeln!(table, "  - client {}: KP", client.client.client()),
                    Err(refused) => {
                        writeln!(table, "  - client {}: {refused}", client.client.client())
                    }
                })
            }
        };
    }
    table
}
