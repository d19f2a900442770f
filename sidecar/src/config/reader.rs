//! Reads the plain types out of a tree and goes on after a fault: each value that
//! does not fit is reported with its key and place, taken out, and the rest read
//! again, until nothing is left to complain about.

use serde::Deserialize;
use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess};
use serde::de::{Unexpected, VariantAccess, Visitor};

use super::fault::Fault;
use super::problem::Problem;
use super::tree::{Node, Step, Value};

/// More than anyone reads; past it the rest is left for the next attempt.
const MOST: usize = 100;
/// So many keys of a table are named where it is missing.
const FEW: usize = 6;
/// A variable or a flag is one text.
const BY_FILE: &str = ", which only a file can hold";

/// Everything that fits, and a line for each thing that does not.
pub(crate) fn read<'de, T>(tree: &mut Node) -> (T, Vec<Problem>)
where
    T: Deserialize<'de> + Default,
{
    let mut problems = Vec::new();
    loop {
        match T::deserialize(Reader::new(tree)) {
            Ok(keys) => return (keys, problems),
            Err(fault) => {
                let path = fault.path();
                problems.extend(fault.into_problems(tree));
                if problems.len() >= MOST || !tree.refuse(&path) {
                    return (T::default(), problems);
                }
            }
        }
    }
}

struct Reader<'t> {
    node: &'t Node,
    /// It is one of a list that is written as one text.
    is_in_text: bool,
}

impl<'t> Reader<'t> {
    fn new(node: &'t Node) -> Self {
        Self { node, is_in_text: false }
    }

    fn expected(&self, what: &str) -> Fault {
        Fault::custom(format_args!("found {}, expected {what}", self.node.value))
    }

    /// A number or flag from where everything is text.
    fn loose<T: std::str::FromStr>(&self) -> Option<T> {
        match &self.node.value {
            Value::Text(text) if self.node.is_loose() => text.parse().ok(),
            _ => None,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Boolean(flag) => visitor.visit_bool(*flag),
            Value::List(list) => {
                visitor.visit_seq(Items { rest: list.iter().enumerate(), is_in_text: false })
            }
            Value::Table(table) => visitor.visit_map(Entries { rest: table.iter(), value: None }),
            Value::Other(text) => Err(Fault::invalid_type(Unexpected::Other(text), &visitor)),
            Value::Refused => Err(self.expected("nothing")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.loose() {
            Some(number) => visitor.visit_i64(number),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match (self.loose(), &self.node.value) {
            (Some(flag), _) => visitor.visit_bool(flag),
            (None, Value::Boolean(_)) => self.deserialize_any(visitor),
            (None, _) => Err(self.expected("true or false")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::List(_) => self.deserialize_any(visitor),
            Value::Text(text) if self.node.is_loose() => {
                let items: Vec<Node> = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Node {
                        value: Value::Text(item.to_owned()),
                        origin: self.node.origin.clone(),
                    })
                    .collect();
                visitor
                    .visit_seq(Items { rest: items.iter().enumerate(), is_in_text: true })
                    // The items are no part of the tree: the whole value is refused.
                    .map_err(Fault::without_steps)
            }
            Value::Table(_) => visitor.visit_seq(Lone { is_loose: self.node.is_loose() }),
            _ => Err(self.expected("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Table(_) => self.deserialize_any(visitor),
            _ => Err(self.expected("a table")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (&self.node.value, keys) {
            (Value::Table(_), _) => self.deserialize_any(visitor),
            _ if self.is_in_text => Err(self.expected(&format!("a list of tables{BY_FILE}"))),
            // More are a section of the file, and in the reference.
            (_, [first, ..]) if keys.len() <= FEW => {
                let example = format!("a table such as {{ {first} = … }}");
                let others = match keys {
                    [_] => String::new(),
                    keys => format!(" (its keys: {})", keys.join(", ")),
                };
                Err(self.expected(&format!("{example}{others}")))
            }
            _ => Err(self.expected("a table")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_enum(Word(text)),
            value => Err(Fault::one_of(value, variants)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A table where a list is expected: what the list would hold says how it is put right.
struct Lone {
    is_loose: bool,
}

impl<'de> SeqAccess<'de> for Lone {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        seed.deserialize(self).map(Some).map_err(Fault::without_steps)
    }
}

impl<'de> Deserializer<'de> for &mut Lone {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("found a table, expected a list"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        let how = if self.is_loose { BY_FILE } else { ": [[…]] in place of […], or [{ … }]" };
        Err(Fault::custom(format_args!("found a table, expected a list of tables{how}")))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Items<I> {
    rest: I,
    is_in_text: bool,
}

impl<'de, 't, I: Iterator<Item = (usize, &'t Node)>> SeqAccess<'de> for Items<I> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let set = |(_, node): &(usize, &'t Node)| !matches!(node.value, Value::Refused);
        let Some((index, node)) = self.rest.find(set) else {
            return Ok(None);
        };
        seed.deserialize(Reader { node, is_in_text: self.is_in_text })
            .map(Some)
            .map_err(|fault| fault.under(Step::Index(index), node))
    }
}

struct Entries<'t, I> {
    rest: I,
    value: Option<(&'t String, &'t Node)>,
}

impl<'de, 't, I: Iterator<Item = (&'t String, &'t Node)>> MapAccess<'de> for Entries<'t, I> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let set = |(_, node): &(&'t String, &'t Node)| !matches!(node.value, Value::Refused);
        self.value = self.rest.find(set);
        let Some((key, node)) = self.value else {
            return Ok(None);
        };
        seed.deserialize(StringDeserializer::new(key.clone()))
            .map(Some)
            .map_err(|fault: Fault| fault.under(Step::Key(key.clone()), node))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((key, node)) = self.value.take() else {
            return Err(Fault::custom("a value before its key"));
        };
        seed.deserialize(Reader::new(node))
            .map_err(|fault| fault.under(Step::Key(key.clone()), node))
    }
}

/// One of an enum's words.
struct Word<'t>(&'t str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        seed.deserialize(StrDeserializer::new(self.0)).map(|word| (word, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Fault> {
        Err(Fault::custom("expected a word alone"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("expected a word alone"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::custom("expected a word alone"))
    }
}
