//! JSON objects in which no name may occur twice: a map would keep one of two contradicting values.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// The members of a JSON object, by name.
#[derive(Debug)]
pub(crate) struct Unique<V>(pub BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(name) = members.next_key::<String>()? {
                    let value = members.next_value().map_err(|error| Error::custom(format!("{name:?}: {error}")))?;
                    insert(&mut map, name, value)?;
                }
                Ok(Unique(map))
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Adds a member that must be new.
pub(crate) fn insert<V, E: Error>(map: &mut BTreeMap<String, V>, name: String, value: V) -> Result<(), E> {
    if map.contains_key(&name) {
        return Err(Error::custom(format!("{name:?} occurs twice")));
    }
    map.insert(name, value);
    Ok(())
}
