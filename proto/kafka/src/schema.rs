//! The language in which the messages are written down, and the code that follows from it.
//!
//! ```text
//! schema! {
//!     request ProduceRequest => ProduceResponse, key Produce, versions 0..=11, flexible 9..;
//!
//!     /// What the message is. The struct that bears the message's name is the message; the others are its parts.
//!     struct ProduceRequest {
//!         /// In every version of the message.
//!         acks: i16,
//!         /// In versions 3 and up; `Option` may be null in all of them.
//!         transactional_id: Option<ByteString> [3..],
//!         /// Null in versions 6 and up only; -1 stands for "unset" (the default of a type is zero, empty or null).
//!         name: Option<ByteString> [0.., nullable 6..],
//!         timeout_ms: i32 [0..] = -1,
//!         /// A tagged field: written only if it differs from its default. Tags ascend within a struct.
//!         current_leader: LeaderIdAndEpoch [10.., tag 0],
//!         /// A request's field that may be left out silently where the version lacks it.
//!         client_software_name: ByteString [3.., ignorable],
//!     }
//! }
//! ```
//!
//! A response is always written in the version that its reader chose, so all its fields may be left out. A request's
//! may not, unless they are `ignorable`: "only validate" left out would do the thing.
//!
//! Decoding reads the fields of a version in the order of the schema, the tagged ones in any order, and skips tagged
//! fields that are unknown (a later version's), whose sizes are checked against the frame.

use std::ops::RangeInclusive;

use crate::{ApiKey, DecodeError, Reader, Writer};

/// A request or a response of the protocol.
pub trait Message: Sized + Default {
    /// The message's name in Kafka's schemas.
    const NAME: &'static str;
    /// The versions that can be read and written here.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields (KIP-482).
    const FIRST_FLEXIBLE: i16;

    /// Reads the message's body. Bytes that follow it are left to the caller.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message's body. What the version cannot say is told by [`Writer::finish`].
    ///
    /// # Panics
    /// If the message has no such version: the writer chose it, so that is a fault of the program.
    fn encode(&self, w: &mut Writer, version: i16);
}

/// A message that asks for something.
pub trait Request: Message {
    /// The API that it belongs to.
    const KEY: ApiKey;
    /// What is answered, in the same version.
    type Response: Message;
}

macro_rules! schema {
    (
        request $message:ident => $response:ident, key $key:ident,
        versions $versions:expr, flexible $flexible:literal ..;
        $($structs:tt)+
    ) => {
        crate::schema::message! { $message, $versions, $flexible }

        impl crate::Request for $message {
            const KEY: crate::ApiKey = crate::ApiKey::$key;
            type Response = $response;
        }

        crate::schema::structs! { must_not_drop true, flexible $flexible; $($structs)+ }
    };
    (
        response $message:ident, versions $versions:expr, flexible $flexible:literal ..;
        $($structs:tt)+
    ) => {
        crate::schema::message! { $message, $versions, $flexible }
        crate::schema::structs! { must_not_drop false, flexible $flexible; $($structs)+ }
    };
}

macro_rules! message {
    ($message:ident, $versions:expr, $flexible:literal) => {
        impl crate::Message for $message {
            const NAME: &'static str = stringify!($message);
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FIRST_FLEXIBLE: i16 = $flexible;

            fn decode(r: &mut crate::Reader, version: i16) -> Result<Self, crate::DecodeError> {
                if !Self::VERSIONS.contains(&version) {
                    return Err(crate::DecodeError::UnsupportedVersion {
                        message: Self::NAME,
                        version,
                    });
                }
                let form = crate::wire::Form {
                    version,
                    flexible: version >= $flexible,
                    nullable: false,
                };
                crate::wire::Wire::decode(r, form)
            }

            fn encode(&self, w: &mut crate::Writer, version: i16) {
                assert!(
                    Self::VERSIONS.contains(&version),
                    "{} has no version {version}",
                    Self::NAME
                );
                let form = crate::wire::Form {
                    version,
                    flexible: version >= $flexible,
                    nullable: false,
                };
                crate::wire::Wire::encode(self, w, form);
            }
        }
    };
}

macro_rules! structs {
    (
        must_not_drop $must_not_drop:literal, flexible $flexible:literal;
        $(
            $(#[$meta:meta])*
            struct $name:ident {
                $(
                    $(#[$field_meta:meta])*
                    $field:ident: $ty:ty $([$($rules:tt)*])? $(= $default:expr)?,
                )*
            }
        )+
    ) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name {
                $(
                    $(#[$field_meta])*
                    pub $field: $ty,
                )*
            }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($field: crate::schema::default_value!($($default)?),)* }
                }
            }

            impl crate::wire::Wire for $name {
                fn min_size(form: crate::wire::Form) -> usize {
                    let mut size = usize::from(form.flexible);
                    $(
                        if crate::schema::rule_tag!($($($rules)*)?).is_none()
                            && crate::schema::rule_versions!(form.version; $($($rules)*)?)
                        {
                            size += <$ty as crate::wire::Wire>::min_size(form);
                        }
                    )*
                    size
                }

                fn decode(r: &mut crate::Reader, form: crate::wire::Form) -> Result<Self, crate::DecodeError> {
                    let mut message = Self::default();
                    $(
                        if crate::schema::rule_tag!($($($rules)*)?).is_none()
                            && crate::schema::rule_versions!(form.version; $($($rules)*)?)
                        {
                            let nullable = crate::schema::rule_nullable!(form.version; $($($rules)*)?);
                            message.$field = crate::wire::Wire::decode(r, crate::wire::Form { nullable, ..form })?;
                        }
                    )*
                    if form.flexible {
                        for _ in 0..r.read_unsigned_varint()? {
                            let tagged = r.begin_tagged_field()?;
                            $(
                                if crate::schema::rule_tag!($($($rules)*)?) == Some(tagged.tag)
                                    && crate::schema::rule_versions!(form.version; $($($rules)*)?)
                                {
                                    let nullable = crate::schema::rule_nullable!(form.version; $($($rules)*)?);
                                    message.$field =
                                        crate::wire::Wire::decode(r, crate::wire::Form { nullable, ..form })?;
                                }
                            )*
                            r.end_tagged_field(tagged)?;
                        }
                    }
                    Ok(message)
                }

                fn encode(&self, w: &mut crate::Writer, form: crate::wire::Form) {
                    // Only the fields that are tagged count; the compiler removes the others' comparisons.
                    let mut tagged_fields = 0;
                    $(
                        let present = crate::schema::rule_versions!(form.version; $($($rules)*)?);
                        if crate::schema::rule_tag!($($($rules)*)?).is_some() {
                            if present && !crate::schema::is_default!(self.$field, $ty, $($default)?) {
                                tagged_fields += 1;
                            }
                        } else if present {
                            let nullable = crate::schema::rule_nullable!(form.version; $($($rules)*)?);
                            crate::wire::Wire::encode(&self.$field, w, crate::wire::Form { nullable, ..form });
                        }
                        if $must_not_drop
                            && !present
                            && !crate::schema::rule_ignorable!($($($rules)*)?)
                            && !crate::schema::is_default!(self.$field, $ty, $($default)?)
                        {
                            w.fail(crate::EncodeError::UnsupportedField {
                                field: concat!(stringify!($name), "::", stringify!($field)),
                                version: form.version,
                            });
                        }
                    )*
                    if form.flexible {
                        w.write_unsigned_varint(tagged_fields);
                        $(
                            if let Some(tag) = crate::schema::rule_tag!($($($rules)*)?)
                                && crate::schema::rule_versions!(form.version; $($($rules)*)?)
                                && !crate::schema::is_default!(self.$field, $ty, $($default)?)
                            {
                                let nullable = crate::schema::rule_nullable!(form.version; $($($rules)*)?);
                                w.write_tagged_field(tag, |w| {
                                    crate::wire::Wire::encode(&self.$field, w, crate::wire::Form { nullable, ..form });
                                });
                            }
                        )*
                    }
                }
            }

            /// Random values of just the fields that the version has, for the tests of all messages.
            #[cfg(test)]
            impl crate::sample::Sample for $name {
                fn sample(random: &mut crate::sample::Random, form: crate::wire::Form) -> Self {
                    let mut message = Self::default();
                    $(
                        let tagged = crate::schema::rule_tag!($($($rules)*)?).is_some();
                        if crate::schema::rule_versions!(form.version; $($($rules)*)?) && !(tagged && random.one_in(3)) {
                            let nullable = crate::schema::rule_nullable!(form.version; $($($rules)*)?);
                            message.$field =
                                crate::sample::Sample::sample(random, crate::wire::Form { nullable, ..form });
                        }
                    )*
                    message
                }
            }
        )+
    };
}

macro_rules! default_value {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

macro_rules! is_default {
    ($value:expr, $ty:ty, $($default:expr)?) => {{
        let default: $ty = crate::schema::default_value!($($default)?);
        $value == default
    }};
}

/// Whether the field is in the version.
macro_rules! rule_versions {
    ($version:expr;) => {
        true
    };
    ($version:expr; $versions:pat $(, $($rest:tt)*)?) => {
        matches!($version, $versions)
    };
}

/// Whether the field, if it can be null at all, can be so in the version.
macro_rules! rule_nullable {
    ($version:expr; $versions:pat, nullable $nullable:pat $(, $($rest:tt)*)?) => {
        matches!($version, $nullable)
    };
    ($version:expr; $($rules:tt)*) => {
        true
    };
}

/// The field's tag, if it is a tagged field.
macro_rules! rule_tag {
    ($versions:pat, tag $tag:literal $(, $($rest:tt)*)?) => {
        Some($tag)
    };
    ($($rules:tt)*) => {
        None::<u32>
    };
}

/// Whether the field may be left out of a request whose version lacks it.
macro_rules! rule_ignorable {
    ($versions:pat $(, nullable $nullable:pat)? $(, tag $tag:literal)?, ignorable) => {
        true
    };
    ($($rules:tt)*) => {
        false
    };
}

pub(crate) use {
    default_value, is_default, message, rule_ignorable, rule_nullable, rule_tag, rule_versions,
    schema, structs,
};
