//! What the wrappers are in a JSON Schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::wrappers::{Anything, MapOrList, NameMap, NotDecoded, OneOrNamed, Spanned, TextOr};

/// A wrapper has no definition of its own: where it is used, it is what it holds.
macro_rules! inline {
    ($wrapper:ident, $generator:ident => $schema:expr) => {
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                format!("{}_of_{}", stringify!($wrapper), T::schema_name()).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

inline!(Spanned, g => g.subschema_for::<T>());
inline!(NotDecoded, g => g.subschema_for::<T>());
inline!(TextOr, g => json_schema!({
    "anyOf": [{ "type": "string" }, g.subschema_for::<T>()]
}));
inline!(NameMap, g => json_schema!({
    "type": "object",
    "additionalProperties": g.subschema_for::<T>()
}));
inline!(OneOrNamed, g => json_schema!({
    "anyOf": [g.subschema_for::<T>(), g.subschema_for::<NameMap<Option<T>>>()]
}));

impl<T: JsonSchema, I: JsonSchema> JsonSchema for MapOrList<T, I> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("MapOrList_of_{}_{}", T::schema_name(), I::schema_name()).into()
    }

    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                g.subschema_for::<NameMap<Option<T>>>(),
                { "type": "array", "items": g.subschema_for::<I>() }
            ]
        })
    }
}

impl JsonSchema for Anything {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Anything".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}
