//! The proto3 JSON mapping with the rules of etcd's gateway: reading, writing, and the field types whose reading
//! differs from pbjson's own (the build script puts them in place).
//!
//! Out: proto field names, 64-bit integers as strings, bytes as padded base64, enums by name, zero values left out.
//! In: proto or lowerCamel names, unknown fields ignored, `null` is unset, integers as numbers or strings, enums by
//! name or number. No HTTP lives here.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// Why JSON text was refused.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The text is no JSON, or does not fit the message.
    #[error("{0}")]
    Read(#[source] serde_json::Error),
    /// The message holds a value that has no JSON form, such as an enum number without a name.
    #[error("{0}")]
    Write(#[source] serde_json::Error),
}

/// Reads the first JSON value of `text`; what follows it is ignored, and empty text is an empty message.
pub fn read_first<T: DeserializeOwned + Default>(text: &[u8]) -> Result<T, JsonError> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<T>();
    match values.next() {
        None => Ok(T::default()),
        Some(read) => read.map_err(JsonError::Read),
    }
}

/// Writes one message.
pub fn write<T: Serialize>(message: &T) -> Result<Vec<u8>, JsonError> {
    serde_json::to_vec(message).map_err(JsonError::Write)
}

/// An integer given as number or decimal string; integral forms such as `1.0` and `1e3` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer<T>(
    /// The integer.
    pub T,
);

/// Largest magnitude at which every integer has its own `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

struct IntegerVisitor<T>(PhantomData<T>);

impl<T: TryFrom<i128>> IntegerVisitor<T> {
    fn fit<E: de::Error>(value: i128) -> Result<Integer<T>, E> {
        T::try_from(value)
            .map(Integer)
            .map_err(|_| E::custom(format_args!("integer {value} does not fit the field")))
    }

    fn fit_float<E: de::Error>(value: f64) -> Result<Integer<T>, E> {
        if value.fract() != 0.0 || value.abs() > EXACT {
            return Err(E::custom(format_args!("{value} is not an integer")));
        }
        Self::fit(value as i128)
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for IntegerVisitor<T> {
    type Value = Integer<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or a string that holds one")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Self::fit(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Self::fit(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Self::fit_float(value)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        // `i128` and `f64` both read forms that JSON numbers do not have, such as "+1" and "inf".
        if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(E::invalid_value(de::Unexpected::Str(text), &self));
        }
        if let Ok(value) = text.parse::<i128>() {
            return Self::fit(value);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Self::fit_float(value),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Integer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntegerVisitor(PhantomData))
    }
}

/// An enum by name or number. An unknown number is kept for the server's own checks; an unknown name is unset (`None`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenEnum<E>(
    /// The enum's number.
    pub Option<i32>,
    PhantomData<E>,
);

struct OpenEnumVisitor<E>(PhantomData<E>);

impl<'de, N: Deserialize<'de> + Into<i32>> Visitor<'de> for OpenEnumVisitor<N> {
    type Value = OpenEnum<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an enum's name or number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        let number = i32::try_from(value).map_err(E::custom)?;
        Ok(OpenEnum(Some(number), PhantomData))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        let number = i32::try_from(value).map_err(E::custom)?;
        Ok(OpenEnum(Some(number), PhantomData))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let known = N::deserialize(StrDeserializer::<E>::new(name)).ok();
        Ok(OpenEnum(known.map(Into::into), PhantomData))
    }
}

impl<'de, N: Deserialize<'de> + Into<i32>> Deserialize<'de> for OpenEnum<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OpenEnumVisitor(PhantomData))
    }
}
