//! One member of the model: its groups, its KeyPackages, and what it makes of events.

use super::*;

/// A group as one member knows it.
#[derive(Clone, Debug)]
struct Group {
    group_id: Bytes,
    joined: u64,
    base: Base,
    /// Newest first, the current one included.
    chains: VecDeque<(u64, Hash)>,
    pending: Vec<(Bytes, u32, Proposed)>,
    staged: Option<(Bytes, Committed)>,
}

/// One client of the model.
#[derive(Clone, Debug)]
pub struct Member {
    client: ClientUri,
    next: u64,
    packages: BTreeSet<Bytes>,
    /// Those of them that may be used more than once.
    last_resorts: BTreeSet<Bytes>,
    groups: BTreeMap<RoomUri, Group>,
    /// Groups as the own external Commits make them.
    entering: BTreeMap<RoomUri, Group>,
}

impl Member {
    pub(in super::super) fn new(client: &ClientUri, seed: u64) -> Self {
        Self {
            client: client.clone(),
            next: seed << 20,
            packages: BTreeSet::new(),
            last_resorts: BTreeSet::new(),
            groups: BTreeMap::new(),
            entering: BTreeMap::new(),
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(in super::super) fn last_resort(&mut self, now: Millis) -> Payload {
        let package = self.key_package(now);
        self.last_resorts.insert(reference_of(&package));
        package
    }

    pub(in super::super) fn key_package(&mut self, now: Millis) -> Payload {
        let package = encode(&Package {
            client: self.client.clone(),
            nonce: self.fresh(),
            not_before_s: now.as_seconds().saturating_sub(SKEW_S),
        });
        self.packages.insert(reference_of(&package));
        Payload(package)
    }

    pub(in super::super) fn found(&mut self, room: &RoomUri) -> (Bytes, Bytes) {
        let leaf = Leaf {
            client: self.client.clone(),
            key: self.fresh(),
        };
        let group_id = Bytes::from(format!("{room}#{}", leaf.key));
        let chain = first_chain(&group_id, &leaf);
        let tree = vec![Some(leaf)];
        let group_info = info_of(&group_id, 0, &tree, chain, 0);
        let bytes = encode_tree(&tree);
        self.enter(room, group_id, 0, chain, tree);
        (group_info, bytes)
    }

    fn enter(&mut self, room: &RoomUri, group_id: Bytes, epoch: u64, chain: Hash, tree: Tree) {
        let group = Group::new(group_id, Base { epoch, chain, tree });
        self.groups.insert(room.clone(), group);
    }

    pub(in super::super) fn entrance(&self, room: &RoomUri) -> Option<Entrance> {
        let group = self.groups.get(room)?;
        Some(Entrance {
            group_id: group.group_id.clone(),
            base: group.base.clone(),
            pending: group.pending.clone(),
        })
    }

    /// An external Commit, which also removes the leaf of `victim` if there is one.
    pub(in super::super) fn entry(
        &mut self,
        room: &RoomUri,
        entrance: &Entrance,
        victim: Option<&ClientUri>,
        key: u64,
    ) -> Option<Bundle> {
        let Entrance {
            group_id,
            base,
            pending,
        } = entrance;
        let leaving = pending.iter();
        let leaving = leaving.filter(|(_, _, proposed)| *proposed == Proposed::Leave);
        let leaving: BTreeMap<u32, Bytes> = leaving
            .map(|(reference, leaf, _)| (*leaf, reference.clone()))
            .collect();
        let former = leaf_of(&base.tree, &self.client);
        let victim = victim.and_then(|client| leaf_of(&base.tree, client));
        if victim.is_some_and(|victim| leaving.contains_key(&victim)) {
            // To remove it does it no harm.
            return None;
        }
        let removed = former.into_iter().chain(victim);
        let content = Committed {
            parent: base.chain,
            remove: removed.filter(|leaf| !leaving.contains_key(leaf)).collect(),
            covered: leaving.into_values().collect(),
            add: Vec::new(),
            joiner: Some(self.client.clone()),
            key,
            reinit: false,
        };
        let commit = public_message(group_id, base.epoch, From::Joiner, 3, &encode(&content));
        let lenient = base.after(None, &commit, &content, pending);
        let next = match (lenient, victim) {
            (Ok(next), _) => next,
            // What it would lead to; the hub must not let it.
            (Err(_), Some(_)) => return Some(self.forged_entry(base, group_id, commit)),
            (Err(_), None) => return None,
        };
        let epoch = base.epoch + 1;
        let bundle = Bundle {
            commit: commit.into(),
            welcome: None,
            group_info: info_of(group_id, epoch, &next.tree, next.chain, next.committer).into(),
            tree: TreeContainer::Full(Payload(encode_tree(&next.tree))),
        };
        let base = Base {
            epoch,
            chain: next.chain,
            tree: next.tree,
        };
        self.entering
            .insert(room.clone(), Group::new(group_id.clone(), base));
        Some(bundle)
    }

    /// A bundle that no rule leads to.
    fn forged_entry(&self, base: &Base, group_id: &Bytes, commit: Bytes) -> Bundle {
        Bundle {
            group_info: info_of(group_id, base.epoch + 1, &base.tree, base.chain, 0).into(),
            tree: TreeContainer::Full(Payload(encode_tree(&base.tree))),
            welcome: None,
            commit: commit.into(),
        }
    }

    pub(in super::super) fn forget(&mut self, room: &RoomUri) {
        self.groups.remove(room);
    }

    pub(in super::super) fn epoch(&self, room: &RoomUri) -> Option<Epoch> {
        Some(Epoch(self.groups.get(room)?.base.epoch))
    }

    pub(in super::super) fn authenticator(&self, room: &RoomUri) -> Option<Hash> {
        Some(self.groups.get(room)?.base.chain)
    }

    pub(in super::super) fn roster(&self, room: &RoomUri) -> Vec<ClientUri> {
        let group = self.groups.get(room).into_iter();
        let leaves = group.flat_map(|group| group.base.tree.iter().flatten());
        leaves.map(|leaf| leaf.client.clone()).collect()
    }

    pub(in super::super) fn commit(&mut self, room: &RoomUri, intent: &Intent) -> Option<Bundle> {
        let key = self.fresh();
        let group = self.groups.get_mut(room)?;
        let own = leaf_of(&group.base.tree, &self.client)?;
        let (covered, mut removed) = if intent.reinit {
            Default::default()
        } else {
            group.coverable(own, intent.contradict)
        };
        let mut remove = Vec::new();
        for client in &intent.remove {
            let leaf = leaf_of(&group.base.tree, client).filter(|leaf| *leaf != own);
            if let Some(leaf) = leaf.filter(|leaf| removed.insert(*leaf)) {
                remove.push(leaf);
            }
        }
        let content = Committed {
            parent: group.base.chain,
            covered: covered
                .into_iter()
                .filter(|(_, updated)| updated.is_none_or(|leaf| !removed.contains(&leaf)))
                .map(|(reference, _)| reference)
                .collect(),
            add: intent.add.iter().map(|package| package.0.clone()).collect(),
            remove,
            joiner: None,
            key,
            reinit: intent.reinit,
        };
        let epoch = group.base.epoch;
        let commit = public_message(
            &group.group_id,
            epoch,
            From::Member(own),
            3,
            &encode(&content),
        );
        let next = group
            .base
            .after(Some(own), &commit, &content, &group.pending)
            .ok()?;
        let references: Vec<Bytes> = next
            .joined
            .iter()
            .filter_map(|(_, _, reference)| reference.clone())
            .collect();
        let welcome = (!references.is_empty()).then(|| {
            let welcoming = Welcoming {
                references,
                group_id: group.group_id.clone(),
                epoch: epoch + 1,
                chain: next.chain,
                tree_hash: Hash::of(&encode_tree(&next.tree)),
            };
            welcoming.message()
        });
        group.staged = Some((commit.clone(), content));
        Some(Bundle {
            commit: commit.into(),
            welcome: welcome.map(Payload),
            group_info: info_of(&group.group_id, epoch + 1, &next.tree, next.chain, own).into(),
            tree: TreeContainer::Full(Payload(encode_tree(&next.tree))),
        })
    }

    pub(in super::super) fn before(&self, room: &RoomUri) -> Option<Before> {
        let base = &self.groups.get(room)?.base;
        let tree = encode_tree(&base.tree);
        Some(Before {
            epoch: base.epoch,
            tree_hash: Bytes::copy_from_slice(&Hash::of(&tree).0),
            tree,
        })
    }

    pub(in super::super) fn confirm(&mut self, room: &RoomUri) -> Result<Epoch, String> {
        if let Some(group) = self.entering.remove(room) {
            let epoch = Epoch(group.base.epoch);
            self.groups.insert(room.clone(), group);
            return Ok(epoch);
        }
        let group = self.groups.get_mut(room).ok_or("no such group")?;
        let (commit, content) = group.staged.take().ok_or("no Commit was made")?;
        let own = leaf_of(&group.base.tree, &self.client).ok_or("not a member")?;
        group.advance(Some(own), &commit, &content)
    }

    pub(in super::super) fn discard(&mut self, room: &RoomUri) {
        self.entering.remove(room);
        if let Some(group) = self.groups.get_mut(room) {
            group.staged = None;
        }
    }

    /// Whether a Commit could take in members that remove one another.
    pub(in super::super) fn contradicts(&self, room: &RoomUri) -> bool {
        let group = self.groups.get(room);
        let own = group.and_then(|group| leaf_of(&group.base.tree, &self.client));
        group
            .zip(own)
            .is_some_and(|(group, own)| group.contradicts(own))
    }

    pub(in super::super) fn propose(&mut self, room: &RoomUri, wish: &Wish) -> Option<Bytes> {
        let key = self.fresh();
        let group = self.groups.get_mut(room)?;
        let own = leaf_of(&group.base.tree, &self.client)?;
        let proposed = match wish {
            Wish::Update => Proposed::Update { key },
            Wish::Remove(client) => {
                let leaf = leaf_of(&group.base.tree, client)?;
                Proposed::Remove { leaf }
            }
            Wish::Leave => Proposed::Leave,
        };
        let content = encode(&proposed);
        let from = From::Member(own);
        let message = public_message(&group.group_id, group.base.epoch, from, 2, &content);
        Some(message)
    }

    pub(in super::super) fn message(&mut self, room: &RoomUri, content: u64) -> Option<Bytes> {
        let group = self.groups.get(room)?;
        let sealed = encode(&Sealed {
            key: message_key(group.base.chain),
            leaf: leaf_of(&group.base.tree, &self.client)?,
            content,
        });
        let mut out = Vec::new();
        out.extend(MLS_10.to_be_bytes());
        out.extend(PRIVATE_MESSAGE.to_be_bytes());
        put_vector(&mut out, &group.group_id);
        out.extend(group.base.epoch.to_be_bytes());
        out.push(1);
        put_vector(&mut out, &[]);
        put_vector(&mut out, &[0; 16]);
        put_vector(&mut out, &sealed);
        Some(out.into())
    }

    pub(in super::super) fn join(
        &mut self,
        room: &RoomUri,
        welcome: &Bytes,
        tree: &Bytes,
    ) -> Result<Epoch, String> {
        let welcome = Welcoming::read(welcome).ok_or("not a Welcome")?;
        let own = welcome
            .references
            .iter()
            .find(|reference| self.packages.contains(*reference))
            .ok_or("the Welcome names no KeyPackage of this client")?
            .clone();
        if Hash::of(tree) != welcome.tree_hash {
            return Err("the tree is not the Welcome's".to_owned());
        }
        let tree: Tree = decode_tree(tree).ok_or("not a tree")?;
        leaf_of(&tree, &self.client).ok_or("the tree does not hold this client")?;
        if !self.last_resorts.contains(&own) {
            self.packages.remove(&own);
        }
        let Welcoming {
            group_id,
            epoch,
            chain,
            ..
        } = welcome;
        // What the client wanted to enter by itself is behind.
        let behind = |group: &mut Group| group.base.epoch <= epoch;
        if self.entering.get_mut(room).is_some_and(behind) {
            self.entering.remove(room);
        }
        self.enter(room, group_id, epoch, chain, tree);
        Ok(Epoch(epoch))
    }

    pub(in super::super) fn take(
        &mut self,
        room: &RoomUri,
        body: &RoomBody,
    ) -> Result<Took, String> {
        let group = self.groups.get_mut(room).ok_or("no such group")?;
        match body {
            RoomBody::Application(message) => group.read(message),
            RoomBody::Proposals(messages) => {
                for message in messages {
                    group.hear(message)?;
                }
                Ok(Took::Proposals)
            }
            RoomBody::Commit { epoch, commit } => {
                let header = handshake_header(commit).map_err(|_| "not a Commit")?;
                let committer = match header.sender {
                    Sender::Member(committer) => Some(committer),
                    Sender::NewMemberCommit => None,
                    Sender::External(_) | Sender::NewMemberProposal => {
                        return Err("a Commit from outside".to_owned());
                    }
                };
                if header.group_id != group.group_id || header.epoch + 1 != epoch.0 {
                    return Err("a Commit of another group or epoch".to_owned());
                }
                if header.epoch != group.base.epoch {
                    let (is, at) = (header.epoch, group.base.epoch);
                    return Err(format!("a Commit of epoch {is} in epoch {at}"));
                }
                let content: Committed = content_of(commit, &group.group_id, committer.is_some())
                    .and_then(|content| decode(&content))
                    .ok_or("not a Commit of the model")?;
                let opened = group.advance(committer, commit, &content)?;
                if leaf_of(&group.base.tree, &self.client).is_some() {
                    return Ok(Took::Commit(opened));
                }
                self.groups.remove(room);
                Ok(Took::Removed)
            }
        }
    }
}

/// What a member tells another client of its user.
#[derive(Clone, Debug)]
pub struct Entrance {
    group_id: Bytes,
    base: Base,
    pending: Vec<(Bytes, u32, Proposed)>,
}

impl Group {
    fn new(group_id: Bytes, base: Base) -> Self {
        Self {
            group_id,
            joined: base.epoch,
            chains: VecDeque::from([(base.epoch, base.chain)]),
            base,
            pending: Vec::new(),
            staged: None,
        }
    }

    /// Whether members that wait to remove one another are among what [`Self::coverable`] would take in.
    fn contradicts(&self, own: u32) -> bool {
        self.coverable(own, true).0.len() > self.coverable(own, false).0.len()
    }

    /// The Proposals that a Commit of `own` can cover, with the leaf that each updates, and the leaves they remove.
    /// With `contradict` also those of members that remove one another, which no Commit may take in together.
    fn coverable(&self, own: u32, contradict: bool) -> (Vec<(Bytes, Option<u32>)>, BTreeSet<u32>) {
        let (mut covered, mut removed, mut updated) =
            (Vec::new(), BTreeSet::new(), BTreeSet::new());
        // Who leaves, of its own will or the hub's, must be let go, so that comes first.
        for (reference, sender, proposed) in &self.pending {
            let leaves = match proposed {
                Proposed::Leave => Some(*sender),
                Proposed::Remove { leaf } if *sender == HUB => Some(*leaf),
                Proposed::Update { .. } | Proposed::Remove { .. } => None,
            };
            if leaves.is_some_and(|leaf| leaf != own && removed.insert(leaf)) {
                covered.push((reference.clone(), None));
            }
        }
        let mut edges = BTreeSet::new();
        for (reference, sender, proposed) in &self.pending {
            match proposed {
                Proposed::Remove { leaf } if !contradict && edges.contains(&(*leaf, *sender)) => {}
                Proposed::Update { .. } if *sender != own && updated.insert(*sender) => {
                    covered.push((reference.clone(), Some(*sender)));
                }
                Proposed::Remove { leaf } if *leaf != own && removed.insert(*leaf) => {
                    edges.insert((*sender, *leaf));
                    covered.push((reference.clone(), None));
                }
                Proposed::Update { .. } | Proposed::Remove { .. } | Proposed::Leave => {}
            }
        }
        (covered, removed)
    }

    fn advance(
        &mut self,
        committer: Option<u32>,
        commit: &Bytes,
        content: &Committed,
    ) -> Result<Epoch, String> {
        let next = self
            .base
            .after(committer, commit, content, &self.pending)
            .map_err(|flaw| match flaw {
                Flaw::Parent => "the Commit follows another history".to_owned(),
                Flaw::Unknown(references) => {
                    format!("{} Proposals never arrived", references.len())
                }
                Flaw::Invalid(reason) => reason.to_owned(),
            })?;
        let epoch = self.base.epoch + 1;
        self.base = Base {
            epoch,
            chain: next.chain,
            tree: next.tree,
        };
        self.chains.push_front((epoch, next.chain));
        self.chains.truncate(EPOCHS_KEPT);
        self.pending.clear();
        self.staged = None;
        Ok(Epoch(epoch))
    }

    fn hear(&mut self, message: &Bytes) -> Result<(), String> {
        let header = handshake_header(message).map_err(|_| "not a Proposal")?;
        if header.group_id != self.group_id || header.epoch != self.base.epoch {
            return Err("a Proposal of another group or epoch".to_owned());
        }
        let leaf = match header.sender {
            Sender::Member(leaf) => leaf,
            Sender::External(0) => HUB,
            Sender::External(_) | Sender::NewMemberProposal | Sender::NewMemberCommit => {
                return Err("a Proposal from outside".to_owned());
            }
        };
        let proposed = content_of(message, &self.group_id, true)
            .and_then(|content| decode(&content))
            .ok_or("not a Proposal of the model")?;
        let reference = reference_of(message);
        if self.pending.iter().all(|(known, ..)| *known != reference) {
            self.pending.push((reference, leaf, proposed));
        }
        Ok(())
    }

    fn read(&self, message: &Bytes) -> Result<Took, String> {
        let header = application_header(message).map_err(|_| "not a message")?;
        if header.group_id != self.group_id {
            return Err("a message of another group".to_owned());
        }
        if header.epoch < self.joined {
            return Ok(Took::BeforeJoining);
        }
        let chain = self.chains.iter().find(|(epoch, _)| *epoch == header.epoch);
        let Some((_, chain)) = chain else {
            return Err(format!("no key for a message of epoch {}", header.epoch));
        };
        let sealed: Sealed = ciphertext_of(message, &self.group_id)
            .and_then(|sealed| decode(&sealed))
            .ok_or("not a message of the model")?;
        if sealed.key != message_key(*chain) {
            return Err("a message of another history".to_owned());
        }
        Ok(Took::Message(sealed.content))
    }
}

/// The ciphertext of a message that [`Member::message`] made.
fn ciphertext_of(message: &[u8], group_id: &[u8]) -> Option<Bytes> {
    let mut front = Vec::new();
    put_vector(&mut front, group_id);
    // Version, wire format, group id, epoch, content type, empty authenticated data, sender data.
    let from = 2 + 2 + front.len() + 8 + 1 + 1 + 17;
    let rest = message.get(from..)?;
    match rest {
        [length, sealed @ ..] if *length < 64 => Some(Bytes::copy_from_slice(sealed)),
        [_, _, sealed @ ..] => Some(Bytes::copy_from_slice(sealed)),
        _ => None,
    }
}
