use serde_json::Value;

use super::{Field, Interface, ParameterMismatch, Type};
use crate::wire::Parameters;

/// Checks an object against the fields that its declaration names. No declaration, no fields.
pub(super) fn fields(
    interface: &Interface,
    declared: Option<&[Field]>,
    object: &Parameters,
) -> Result<(), ParameterMismatch> {
    let declared = declared.unwrap_or_default();
    if let Some(unknown) = object
        .keys()
        .find(|k| declared.iter().all(|f| f.name != **k))
    {
        return Err(ParameterMismatch(unknown.clone()));
    }
    for field in declared {
        let value = object.get(&field.name).unwrap_or(&Value::Null);
        fits(interface, &field.kind, value).map_err(|inner| {
            ParameterMismatch(if inner.0.is_empty() {
                field.name.clone()
            } else {
                format!("{}.{}", field.name, inner.0)
            })
        })?;
    }
    Ok(())
}

/// The name in the error is that of a field inside the value; empty for the value itself.
fn fits(interface: &Interface, kind: &Type, value: &Value) -> Result<(), ParameterMismatch> {
    let good = match (kind, value) {
        (Type::Nullable(_), Value::Null) => true,
        (Type::Nullable(kind), value) => return fits(interface, kind, value),
        (Type::Bool, Value::Bool(_))
        | (Type::Float, Value::Number(_))
        | (Type::String, Value::String(_))
        | (Type::Object, Value::Object(_)) => true,
        (Type::Int, Value::Number(n)) => n.is_i64() || n.is_u64(),
        (Type::Any, value) => !value.is_null(),
        (Type::Enum(names), Value::String(s)) => names.contains(s),
        (Type::Named(name), value) => {
            return match interface.types.iter().find(|(n, _)| n == name) {
                Some((_, kind)) => fits(interface, kind, value),
                None => Err(ParameterMismatch(String::new())),
            };
        }
        (Type::Struct(declared), Value::Object(object)) => {
            return fields(interface, Some(declared), object);
        }
        (Type::Array(kind), Value::Array(values)) => {
            return values.iter().try_for_each(|v| fits(interface, kind, v));
        }
        (Type::Map(kind), Value::Object(values)) => {
            return values.values().try_for_each(|v| fits(interface, kind, v));
        }
        _ => false,
    };
    if good {
        Ok(())
    } else {
        Err(ParameterMismatch(String::new()))
    }
}
