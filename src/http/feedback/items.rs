//! The body of a call as items. Only members that an item has are kept in memory, so that no body costs more than a few
//! times its bytes.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result, nearest};
use crate::inference::printable;
use crate::prediction_log::feedback::{ItemFault, MAX_ITEMS, Told, ToldTime, ToldValue, check_count};

/// The members of an item.
const FIELDS: [&str; 8] =
    ["prediction_id", "request_id", "row_index", "name", "value", "event_time", "source", "weight"];

type Item = Result<Told, ItemFault>;

/// Reads one item, or an array of them.
///
/// # Errors
/// `Invalid` for what is not JSON, neither an object nor an array, or more than [`MAX_ITEMS`] items.
pub fn read(body: &[u8]) -> Result<Vec<Item>> {
    let parsed: serde_json::Result<Call> = serde_json::from_slice(body);
    let Call { items, count } =
        parsed.map_err(|error| Error::Invalid(format!("failed to parse the request JSON buffer: {error}")))?;
    check_count(count)?;
    Ok(items)
}

struct Call {
    items: Vec<Item>,
    /// Of all that came; those beyond [`MAX_ITEMS`] are not kept.
    count: usize,
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CallVisitor)
    }
}

struct CallVisitor;

impl<'de> Visitor<'de> for CallVisitor {
    type Value = Call;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item of feedback, or an array of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Call, A::Error> {
        Ok(Call { items: vec![read_item(map)?], count: 1 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Call, A::Error> {
        let mut items = vec![];
        while items.len() < MAX_ITEMS
            && let Some(item) = seq.next_element_seed(ItemSeed)?
        {
            items.push(item);
        }
        let mut count = items.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Call { items, count })
    }
}

/// What may stand where an item is expected.
struct ItemSeed;

impl<'de> DeserializeSeed<'de> for ItemSeed {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        match deserializer.deserialize_any(ScalarVisitor { in_item: true })? {
            Json::Item(item) => Ok(*item),
            other => Ok(Err(ItemFault::new("item", "an object", other.text()))),
        }
    }
}

/// The first fault of an item is told; the rest of it is passed over.
fn read_item<'de, A: MapAccess<'de>>(mut map: A) -> Result<Item, A::Error> {
    let (mut told, mut fault) = (Told::default(), None);
    let mut seen = [false; FIELDS.len()];
    while let Some(key) = map.next_key::<String>()? {
        let Some(at) = FIELDS.iter().position(|field| *field == key).filter(|_| fault.is_none()) else {
            map.next_value::<IgnoredAny>()?;
            fault.get_or_insert_with(|| unknown(&key));
            continue;
        };
        let value = map.next_value_seed(ScalarSeed)?;
        if std::mem::replace(&mut seen[at], true) {
            fault = Some(ItemFault::new(FIELDS[at], "it once in an item", "it twice"));
        } else if !matches!(value, Json::Null) {
            fault = set(&mut told, FIELDS[at], value).err();
        }
    }
    Ok(fault.map_or(Ok(told), Err))
}

fn unknown(key: &str) -> ItemFault {
    let expected = match nearest(key, FIELDS) {
        Some(name) => format!("a member that items have (did you mean '{name}'?)"),
        None => format!("a member that items have ({})", FIELDS.join(", ")),
    };
    ItemFault::new(printable(key), expected, "one that they don't have")
}

fn set(told: &mut Told, field: &'static str, value: Json) -> Result<(), ItemFault> {
    let wrong = |expected: &'static str, value: &Json| ItemFault::new(field, expected, value.text());
    match (field, value) {
        ("prediction_id", Json::Text(text)) => told.prediction_id = Some(text),
        ("request_id", Json::Text(text)) => told.request_id = Some(text),
        ("name", Json::Text(text)) => told.name = Some(text),
        ("source", Json::Text(text)) => told.source = Some(text),
        ("prediction_id" | "request_id" | "name" | "source", other) => return Err(wrong("a text", &other)),
        ("row_index", Json::Whole(row)) => told.row_index = Some(row),
        ("row_index", other) => return Err(wrong("a whole number", &other)),
        ("value", Json::Text(text)) => told.value = Some(ToldValue::Text(text)),
        ("value", Json::Flag(flag)) => told.value = Some(ToldValue::Flag(flag)),
        ("event_time", Json::Text(text)) => told.event_time = Some(ToldTime::Text(text)),
        (_, other) => match (field, other.number()) {
            ("value", Some(number)) => told.value = Some(ToldValue::Number(number)),
            ("value", None) => return Err(wrong("a number, a text or a boolean", &other)),
            ("event_time", Some(number)) => told.event_time = Some(ToldTime::Seconds(number)),
            ("event_time", None) => return Err(wrong("a text as RFC 3339 has it, or Unix seconds", &other)),
            (_, Some(number)) => told.weight = Some(number),
            (_, None) => return Err(wrong("a number", &other)),
        },
    }
    Ok(())
}

/// A value of JSON: what an item may hold as it is, of all else only what it is.
enum Json {
    Null,
    Flag(bool),
    Whole(u64),
    Number(f64),
    Text(String),
    Array,
    Object,
    Item(Box<Item>),
}

impl Json {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// For a message.
    fn text(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("'{}'", printable(text)),
            Self::Array => "an array".to_owned(),
            Self::Object | Self::Item(_) => "an object".to_owned(),
        }
    }
}

struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(ScalarVisitor { in_item: false })
    }
}

struct ScalarVisitor {
    /// Whether an object is read as an item.
    in_item: bool,
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        if self.in_item {
            return Ok(Json::Item(Box::new(read_item(map)?)));
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Json::Object)
    }
}
