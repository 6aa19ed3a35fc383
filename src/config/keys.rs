//! Keys that do not exist, and what was probably meant.

use super::{ClusterConfig, ClusterNode, Config, ConfigError, PeerConfig, TrustConfig};
use figment::{
    Figment,
    providers::Serialized,
    value::{Dict, Value},
};
use std::path::PathBuf;

/// Refuses the first key of `given` that does not exist; `place` says where it was found.
pub(super) fn check(given: &Dict, place: &str) -> Result<(), ConfigError> {
    let peer = |trust| PeerConfig {
        domain: String::new(),
        addresses: Vec::new(),
        trust,
    };
    // One peer for each kind of trust: a known key is one that any of them has.
    let known = Config {
        peer: vec![
            peer(TrustConfig::Ca(PathBuf::new())),
            peer(TrustConfig::PinnedKey(String::new())),
        ],
        cluster: ClusterConfig {
            nodes: vec![ClusterNode {
                id: 0,
                address: String::new(),
            }],
            ..ClusterConfig::default()
        },
        ..Config::default()
    };
    let known = Figment::from(Serialized::defaults(known));
    let known: Dict = known.extract().map_err(|error| ConfigError::Value {
        place: "the defaults".to_owned(),
        key: String::new(),
        why: error.to_string(),
    })?;
    let (mut known_keys, mut given_keys) = (Vec::new(), Vec::new());
    collect(&known, "", &mut known_keys);
    collect(given, "", &mut given_keys);
    match given_keys.iter().find(|key| !known_keys.contains(key)) {
        None => Ok(()),
        Some(key) => Err(ConfigError::UnknownKey {
            place: place.to_owned(),
            nearest: nearest(key, &known_keys),
            key: key.clone(),
        }),
    }
}

/// The keys of a table and of all tables in it, each with the way to it.
fn collect(table: &Dict, way: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let key = format!("{way}{key}");
        let inside = format!("{key}.");
        keys.push(key);
        if let Some(table) = value.as_dict() {
            collect(table, &inside, keys);
        }
        if let Value::Array(_, elements) = value {
            for table in elements.iter().filter_map(Value::as_dict) {
                collect(table, &inside, keys);
            }
        }
    }
}

/// The known key that looks most like `key`: the whole way when it is a section's, or the key of its section.
fn nearest(key: &str, known: &[String]) -> String {
    let depth = |key: &str| key.matches('.').count();
    let likeness = |candidate: &&String| strsim::normalized_damerau_levenshtein(key, candidate);
    let same_depth = known
        .iter()
        .filter(|candidate| depth(candidate) == depth(key));
    let nearest = same_depth.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.cloned().unwrap_or_default()
}
