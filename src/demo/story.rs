//! The story: Alice claims for six people at two providers, and `clubhouse` lives through everything that can happen.
//!
//! Source: transport requirements, sections 3.1, 3.2, 4 and 5.

use super::{
    narrator::Narrator,
    verify::{self, Ledger, claim_table},
};
use anyhow::{Context, bail, ensure};
use mimi_actors::{
    ids::{RoomUri, UserUri},
    wire::{
        claim::UserRefused,
        event::{Epoch, SubmitRefused, Verdict},
    },
};
use mimi_client::member::{Member, MemberError, PackageOptions, packages};
use mimi_operator::protocol::Request;
use mimi_stage::{
    Stage,
    cast::{Cast, PATIENCE, user_uri},
};

/// Tells the whole story.
pub(super) async fn tell(
    stage: &mut Stage,
    narrator: &mut Narrator,
    several: bool,
) -> anyhow::Result<()> {
    let mut cast = Cast::default();
    let mut ledger = Ledger::default();
    let room = RoomUri::new(&"a.example".parse()?, "clubhouse")?;
    enter(stage, &mut cast, narrator).await?;
    gather(stage, &mut cast, &room, narrator).await?;
    talk(&mut cast, &room, &mut ledger, narrator).await?;
    contend(&mut cast, &room, narrator).await?;
    speak_late(&mut cast, &room, &mut ledger, narrator).await?;
    remove_carl(stage, &mut cast, &room, &mut ledger, narrator).await?;
    if several {
        lose_leader(stage, &mut cast, &room, &mut ledger, narrator).await?;
    }
    survive(stage, &mut cast, &room, &mut ledger, narrator).await?;
    let table = verify::closing(&mut cast, &room, &ledger)?;
    narrator.step("the books are closed: every claim of this story was checked")?;
    narrator.line(&table)
}

fn usual() -> PackageOptions {
    PackageOptions::default()
}

/// Everybody gets an account; Bruce gives no consent, Bella is deleted.
async fn enter(stage: &mut Stage, cast: &mut Cast, narrator: &mut Narrator) -> anyhow::Result<()> {
    let alice = cast
        .enter(stage, 'a', "alice", &[("alice1", usual())])
        .await?;
    let three = [("bob1", usual()), ("bob2", usual()), ("bob3", usual())];
    cast.enter(stage, 'b', "bobby", &three).await?;
    let betty = [
        ("betty1", usual()),
        ("betty2", PackageOptions::incompatible()),
    ];
    cast.enter(stage, 'b', "betty", &betty).await?;
    cast.enter(stage, 'b', "bruce", &[("bruce1", usual())])
        .await?;
    cast.enter(stage, 'b', "bella", &[]).await?;
    cast.enter(stage, 'c', "cathy", &[("cathy1", usual())])
        .await?;
    cast.enter(stage, 'c', "carl", &[("carl1", usual())])
        .await?;
    for (provider, user) in [
        ('b', "bobby"),
        ('b', "betty"),
        ('c', "cathy"),
        ('c', "carl"),
    ] {
        let (user, requester) = (user.to_owned(), alice.clone());
        let consent = Request::Consent {
            user,
            requester: requester.into(),
            room: None,
            grant: Some(true),
        };
        stage.ask(provider, &consent).await?;
    }
    stage
        .ask(
            'b',
            &Request::DeleteUser {
                user: "bella".to_owned(),
            },
        )
        .await?;
    narrator
        .step("nine devices are enrolled with KeyPackages; Bruce gave no consent, Bella is deleted")
}

/// Alice claims from both providers at once, creates the room, and adds whom she got packages for.
async fn gather(
    stage: &mut Stage,
    cast: &mut Cast,
    room: &RoomUri,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    let wanted: Vec<UserUri> = [
        ('b', "bobby"),
        ('b', "betty"),
        ('b', "bruce"),
        ('b', "bella"),
        ('c', "cathy"),
        ('c', "carl"),
    ]
    .into_iter()
    .map(|(provider, user)| user_uri(provider, user))
    .collect::<Result<_, _>>()?;
    let alice = cast.get("alice1")?;
    let claimed = alice.claim(Some(room.clone()), &wanted).await?;
    narrator.step("Alice claims KeyPackages: one request to b.example, one to c.example")?;
    narrator.line(&claim_table(&claimed))?;
    let got = packages(&claimed);
    ensure!(
        got.len() == 6,
        "six devices have a package for Alice, not {}",
        got.len()
    );
    let refused: Vec<UserRefused> = claimed
        .users
        .iter()
        .filter_map(|user| user.result.as_ref().err().copied())
        .collect();
    ensure!(
        refused == [UserRefused::NoConsent, UserRefused::Deleted],
        "refused: {refused:?}"
    );

    alice.create_room(room).await?;
    let add = alice.prepare_add(room, &got)?;
    let accepted = alice.commit(&add).await?;
    narrator.step(&format!(
        "Alice creates clubhouse and adds six devices: epoch {}",
        accepted.epoch
    ))?;
    let joining = ["bob1", "bob2", "bob3", "betty1", "cathy1", "carl1"].map(str::to_owned);
    cast.until(&joining, |member| member.epoch(room) == Some(Epoch(1)))
        .await?;
    stage.ready('b').await?;
    narrator.step("everybody has joined from their Welcome")
}

/// Messages go every way.
async fn talk(
    cast: &mut Cast,
    room: &RoomUri,
    ledger: &mut Ledger,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    let everybody = cast.members(room);
    for name in &everybody {
        let texts = [format!("{name} says hello"), format!("{name} says more")];
        ledger.send(cast, room, name, &texts, &everybody).await?;
    }
    ledger.delivered(cast, room, &everybody).await?;
    let count = ledger.len();
    narrator.step(&format!(
        "{count} messages go every way; all seven devices have read them all"
    ))
}

/// Alice and Bobby commit for the same epoch: one wins, the other rebuilds.
async fn contend(cast: &mut Cast, room: &RoomUri, narrator: &mut Narrator) -> anyhow::Result<()> {
    let before = cast
        .get("alice1")?
        .epoch(room)
        .context("Alice is a member")?;
    let for_alice = cast.get("alice1")?.prepare_update(room)?;
    let for_bobby = cast.get("bob1")?.prepare_update(room)?;
    // Both stand in the doorway at once: each borrows its own member.
    let mut alice = std::mem::replace(cast.get("alice1")?, spare()?);
    let mut bobby = std::mem::replace(cast.get("bob1")?, spare()?);
    let (first, second) = tokio::join!(alice.commit(&for_alice), bobby.commit(&for_bobby));
    *cast.get("alice1")? = alice;
    *cast.get("bob1")? = bobby;
    let (loser, lost) = match (first, second) {
        (Ok(_), Err(lost)) => ("bob1", lost),
        (Err(lost), Ok(_)) => ("alice1", lost),
        (Ok(_), Ok(_)) => bail!("two Commits were accepted for epoch {before}"),
        (Err(first), Err(second)) => bail!("no Commit was accepted: {first}; {second}"),
    };
    let MemberError::Lost { current, winner } = lost else {
        bail!("the loser was told {lost} rather than the epoch and the winner");
    };
    ensure!(
        current == before.next(),
        "the loser was told epoch {current}"
    );
    narrator.step(&format!(
        "Alice and Bobby commit for epoch {before} at once: {loser} loses and is told epoch {current} \
         and the winner {}",
        winner.to_string().get(..8).unwrap_or_default(),
    ))?;
    let rebuilt = cast.get(loser)?;
    rebuilt
        .run_until(PATIENCE, |member| member.epoch(room) == Some(current))
        .await?;
    let again = rebuilt.prepare_update(room)?;
    let accepted = rebuilt.commit(&again).await?;
    let everybody = cast.members(room);
    cast.until(&everybody, |member| {
        member.epoch(room) == Some(accepted.epoch)
    })
    .await?;
    verify::same_authenticator(cast, room, &everybody)?;
    narrator.step(&format!(
        "{loser} rebuilds its Commit: epoch {}, the same for everybody",
        accepted.epoch
    ))
}

/// A member that holds a place for a moment.
fn spare() -> anyhow::Result<Member> {
    Ok(Member::create(
        "mimi://a.example/d/nobody/spare".parse()?,
        None,
    )?)
}

/// Cathy encrypts in one epoch and sends in the next: her message is taken.
async fn speak_late(
    cast: &mut Cast,
    room: &RoomUri,
    ledger: &mut Ledger,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    let everybody = cast.members(room);
    let text = "cathy1 wrote this one epoch ago";
    let cathy = cast.get("cathy1")?;
    let written_in = cathy.epoch(room).context("Cathy is a member")?;
    let number = cathy.encrypt(room, &[text])?;
    let alice = cast.get("alice1")?;
    let update = alice.prepare_update(room)?;
    let now_in = alice.commit(&update).await?.epoch;
    cast.get("cathy1")?.resend(room).await?;
    ledger.note(cast, "cathy1", number, text, &everybody)?;
    ledger.delivered(cast, room, &everybody).await?;
    cast.until(&everybody, |member| member.epoch(room) == Some(now_in))
        .await?;
    narrator.step(&format!(
        "a message of epoch {written_in}, sent in epoch {now_in}, is accepted and read by everybody"
    ))
}

/// Carl is removed while a message of his is on its way: the story holds it back until the hub has decided.
async fn remove_carl(
    stage: &mut Stage,
    cast: &mut Cast,
    room: &RoomUri,
    ledger: &mut Ledger,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    stage.hold(true).await;
    let text = "carl1 says what nobody must read";
    let carl = cast.get("carl1")?;
    let uri = carl.client().clone();
    let number = carl.send(room, &[text]).await?;
    ensure!(
        carl.unresolved(room).contains(&number),
        "Carl's message has its verdict before it left c.example"
    );
    let alice = cast.get("alice1")?;
    let remove = alice.prepare_remove(room, &[uri])?;
    let accepted = alice.commit(&remove).await?;
    stage.hold(false).await;
    narrator.step(&format!(
        "Carl is removed (epoch {}) while his message is on its way",
        accepted.epoch
    ))?;
    let decided = |member: &Member| {
        let word =
            |(of, verdict): &(_, Verdict)| *of == number && matches!(verdict, Verdict::Refused(_));
        member.verdicts(room).iter().any(word)
    };
    let carl = cast.get("carl1")?;
    carl.run_until(PATIENCE, decided)
        .await
        .context("Carl waits for the verdict")?;
    let words = carl.verdicts(room);
    let word = words
        .iter()
        .find(|(of, _)| *of == number)
        .map(|(_, verdict)| *verdict);
    ensure!(
        word == Some(Verdict::Refused(SubmitRefused::NotMember)),
        "Carl was told {word:?} rather than that he is no member"
    );
    ledger.refused(text);
    let everybody = but_carl(cast, room);
    cast.until(&everybody, |member| {
        member.epoch(room) == Some(accepted.epoch)
    })
    .await?;
    narrator.step("Carl's message is refused by an asynchronous verdict: he is not a member")
}

/// The devices that are members of the room, once Carl is not.
fn but_carl(cast: &Cast, room: &RoomUri) -> Vec<String> {
    let mut names = cast.members(room);
    names.retain(|name| name != "carl1");
    names
}

/// The node of the hub that leads the room is killed while Alice commits; the others go on without it.
async fn lose_leader(
    stage: &mut Stage,
    cast: &mut Cast,
    room: &RoomUri,
    ledger: &mut Ledger,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    let everybody = but_carl(cast, room);
    let leader = stage.leader_of('a', &room.to_string()).await?;
    let doors = stage.doors_beside('a', leader)?;
    let door = *doors.first().context("another node runs")?;
    let doors = stage.doors('a')?;
    let alice = cast.get("alice1")?;
    alice.connect_to_any(&stage.dialer, &[door]).await?;
    alice.roam(&stage.dialer, &doors);
    let before = alice.epoch(room).context("Alice is a member")?;
    let update = alice.prepare_update(room)?;
    // The Commit is on its way while the node dies: its answer may be lost.
    let (first, killed) = tokio::join!(alice.commit(&update), stage.kill_node('a', leader));
    killed?;
    let killed = tokio::time::Instant::now();
    let alice = cast.get("alice1")?;
    let accepted = match first {
        Ok(accepted) => accepted,
        // The same bytes again: they are accepted once, whatever became of the first.
        Err(_) => alice.commit_within(&update, PATIENCE).await?,
    };
    ensure!(
        accepted.epoch == before.next(),
        "Alice's one Commit opened epoch {}, after {before}",
        accepted.epoch
    );
    narrator.step(&format!(
        "node {leader} of a.example, the room's leader, is killed in mid-Commit: epoch {} is open {:.1} s later",
        accepted.epoch,
        killed.elapsed().as_secs_f64(),
    ))?;
    let texts = ["one node fewer".to_owned()];
    ledger
        .send(cast, room, "alice1", &texts, &everybody)
        .await?;
    cast.until(&everybody, |member| {
        member.epoch(room) == Some(accepted.epoch)
    })
    .await?;
    ledger.delivered(cast, room, &everybody).await?;
    stage.restart('a').await?;
    narrator.step("it is back and has caught up")
}

/// b.example is killed in the middle of traffic and started again.
async fn survive(
    stage: &mut Stage,
    cast: &mut Cast,
    room: &RoomUri,
    ledger: &mut Ledger,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    let everybody = but_carl(cast, room);
    for round in 0..5 {
        for name in ["alice1", "bob2", "betty1", "cathy1"] {
            let texts: Vec<String> = (0..8)
                .map(|number| format!("{name} before the crash {round}.{number}"))
                .collect();
            ledger.send(cast, room, name, &texts, &everybody).await?;
        }
    }
    stage.kill('b').await?;
    for name in ["alice1", "cathy1"] {
        let texts: Vec<String> = (0..20)
            .map(|number| format!("{name} while b.example is down {number}"))
            .collect();
        ledger.send(cast, room, name, &texts, &everybody).await?;
    }
    narrator.step("b.example is killed with -9 in the middle of traffic; the others go on")?;
    stage.restart('b').await?;
    cast.reconnect(stage, 'b').await?;
    let texts = ["bob3 is back".to_owned()];
    ledger.send(cast, room, "bob3", &texts, &everybody).await?;
    ledger.delivered(cast, room, &everybody).await?;
    narrator.step("b.example is back; everything that was acknowledged has arrived")
}
