//! The map that everything on a packet's way is looked up in.

use foldhash::quality::RandomState;
use rpds::HashTrieMapSync;

/// Persistent, and hashed by foldhash: std's SipHash took a good part of a look-up's time, for a defence against keys
/// that are made to collide. Here the keys in the map are an admin's, and the seed differs from run to run. The variant
/// of good quality, since a trie branches by all bits of a hash, not by the best ones.
pub(crate) type Lookup<K, V> = HashTrieMapSync<K, V, RandomState>;
