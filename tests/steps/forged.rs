//! GroupInfos that are rightly signed and wrong in one field.

use super::{Story, commit::send_flawed, support};
use cucumber::when;
use support::forger::{Info, signer_of, vector};

/// A GroupInfo wrong in this field.
fn change(info: &mut Info, field: &str) {
    let [group_id, epoch, tree, transcript, extensions] = info.places();
    match field {
        "version" => info.context[1] = 2,
        "cipher_suite" => info.context[3] = 3,
        "group_id" => info.context[group_id] ^= 1,
        "epoch" => info.context[epoch + 7] ^= 1,
        "tree_hash" => info.context[tree] ^= 1,
        "confirmed_transcript_hash" => info.context[transcript] ^= 1,
        "extensions" => {
            info.context.truncate(extensions);
            info.context.push(0);
        }
        "confirmation_tag" => info.tag[0] ^= 1,
        "signer" => info.signer += 1,
        _ => panic!("{field}"),
    }
}

#[when(regex = r"^(\w+) sends a bundle whose GroupInfo has another (\w+), rightly signed$")]
async fn wrong_field(story: &mut Story, name: String, field: String) {
    forge(story, &name, |info| change(info, &field)).await;
}

#[when(regex = r"^(\w+) sends a bundle whose GroupInfo has (\d+) bytes, rightly signed$")]
async fn long_group_info(story: &mut Story, name: String, bytes: usize) {
    forge(story, &name, |info| {
        // An extension of a type that nobody knows, as long as it takes.
        let rest = vector(&vec![7; bytes - 400]);
        info.extensions.extend([0xfa, 0xfa]);
        info.extensions.extend(rest);
    })
    .await;
}

async fn forge(story: &mut Story, name: &str, change: impl FnOnce(&mut Info)) {
    let den = story.room();
    let signer = signer_of(story.net(), &story.members[name]);
    let mut flawed = story.member(name).prepare_update(&den).unwrap();
    let mut info = Info::read(&flawed.group_info);
    // What is signed anew and not changed is what the member made.
    assert_eq!(info.signed(&signer), flawed.group_info);
    change(&mut info);
    flawed.group_info = info.signed(&signer);
    send_flawed(story, name, &flawed).await;
}
