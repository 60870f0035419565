//! From the table's values to a struct's fields.

use super::value::Value;

/// A type that a struct's field may have. `None` in means unset; `None` out means that the field needs a value.
pub(super) trait FromValue: Sized {
    fn from_value(value: Option<Value>) -> Option<Self>;
}

macro_rules! from_value {
    ($($variant:ident => $type:ty),* $(,)?) => {$(
        impl FromValue for $type {
            fn from_value(value: Option<Value>) -> Option<Self> {
                match value {
                    Some(Value::$variant(value)) => Some(value),
                    _ => None,
                }
            }
        }
    )*};
}

from_value! {
    Boolean => bool,
    Short => i16,
    Int => i32,
    Long => i64,
    Double => f64,
    Text => String,
    List => Vec<String>,
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Option<Value>) -> Option<Self> {
        match value {
            None => Some(None),
            some => T::from_value(some).map(Some),
        }
    }
}

/// Declares a struct whose fields are keys of the table, and a constructor that reads them one by one.
macro_rules! typed_config {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($field:ident: $type:ty = $key:literal,)* }
        also { $($(#[$also_meta:meta])* $also:ident: $also_type:ty,)* }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $(#[doc = concat!("`", $key, "`.")] pub $field: $type,)*
            $($(#[$also_meta])* pub $also: $also_type,)*
        }

        impl $name {
            /// Reads the fields that are keys of the table, and adds the others.
            fn read(
                mut value_of: impl FnMut(&'static str) -> Result<Option<Value>, ConfigError>,
                $($also: $also_type,)*
            ) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($field: FromValue::from_value(value_of($key)?).ok_or(ConfigError::Missing { key: $key })?,)*
                    $($also,)*
                })
            }
        }
    };
}
pub(super) use typed_config;
