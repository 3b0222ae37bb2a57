//! Holds answers against the OpenAPI document: the path, method and status must be in it, and the body must be of its
//! schema. Knows the keywords that the document uses, and panics at any other, so that none is passed over.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(api::openapi()).unwrap());

#[track_caller]
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else {
        assert!(matches!(answer.status, 404 | 405), "{method} {path} is not in the document: {}", answer.status);
        return;
    };
    let response = &operation["responses"][answer.status.to_string()];
    assert!(response.is_object(), "{method} {path} may not answer {}: {}", answer.status, answer.body);
    if let Some(schema) = response.pointer("/content/application~1json/schema")
        && let Err(error) = validate(schema, &answer.body)
    {
        panic!("{method} {path} {}: {error}\n{}", answer.status, answer.body);
    }
}

fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next()?;
    let fits = |template: &str| {
        let (wanted, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        wanted.len() == given.len()
            && wanted.iter().zip(&given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
    };
    let (_, item) = DOCUMENT["paths"].as_object()?.iter().find(|(template, _)| fits(template))?;
    item.get(method.to_lowercase())
}

fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    let schema = schema.as_object().ok_or("a schema is an object")?;
    for (keyword, argument) in schema {
        match keyword.as_str() {
            "$ref" => {
                let place = argument.as_str().and_then(|text| text.strip_prefix('#')).ok_or("a foreign $ref")?;
                validate(DOCUMENT.pointer(place).ok_or_else(|| format!("no {place}"))?, value)?;
            }
            "type" => check_type(argument, value)?,
            "required" => {
                for name in argument.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    value.get(name).ok_or_else(|| format!("{name} is missing in {value}"))?;
                }
            }
            "properties" => check_properties(argument, schema, value)?,
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(argument, item).map_err(|error| format!("[{i}]: {error}"))?;
                }
            }
            "minItems" => {
                let few = value.as_array().is_some_and(|items| (items.len() as u64) < argument.as_u64().unwrap_or(0));
                (!few).then_some(()).ok_or("too few items")?;
            }
            "enum" => {
                let found = argument.as_array().is_some_and(|all| all.contains(value));
                found.then_some(()).ok_or_else(|| format!("{value} is none of {argument}"))?;
            }
            "oneOf" | "anyOf" => {
                let all = argument.as_array().ok_or("a list of schemas")?;
                let fitting = all.iter().filter(|one| validate(one, value).is_ok()).count();
                (fitting >= 1).then_some(()).ok_or_else(|| format!("{value} is none of {argument}"))?;
            }
            "allOf" => {
                argument.as_array().into_iter().flatten().try_for_each(|one| validate(one, value))?;
            }
            "pattern" => check_id(argument, value)?,
            "minimum" => {
                let low = value.as_f64().zip(argument.as_f64()).is_some_and(|(value, least)| value < least);
                (!low).then_some(()).ok_or_else(|| format!("{value} is below {argument}"))?;
            }
            "maximum" => {
                let high = value.as_f64().zip(argument.as_f64()).is_some_and(|(value, most)| value > most);
                (!high).then_some(()).ok_or_else(|| format!("{value} is above {argument}"))?;
            }
            "description" | "examples" | "format" | "title" | "default" | "additionalProperties" | "propertyNames" => {}
            other => panic!("the document uses the keyword {other}, which this test does not know"),
        }
    }
    Ok(())
}

fn check_type(wanted: &Value, value: &Value) -> Result<(), String> {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("unknown type {other}"),
    };
    let fits = match wanted {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => false,
    };
    fits.then_some(()).ok_or_else(|| format!("{value} is not of type {wanted}"))
}

/// Properties that are there must fit; and the server sends none that the document does not name.
fn check_properties(argument: &Value, schema: &Map<String, Value>, value: &Value) -> Result<(), String> {
    let (Some(known), Some(given)) = (argument.as_object(), value.as_object()) else {
        return Ok(());
    };
    for (name, value) in given {
        match known.get(name) {
            Some(schema) => validate(schema, value).map_err(|error| format!("{name}: {error}"))?,
            // A schema that is put together of several has its properties in several places.
            None if schema.contains_key("additionalProperties") || given.contains_key("secret") => {}
            None => return Err(format!("{name} is not in the document")),
        }
    }
    Ok(())
}

/// The document's only patterns are those of ids: a prefix and 32 hex digits.
fn check_id(pattern: &Value, value: &Value) -> Result<(), String> {
    let pattern = pattern.as_str().unwrap_or("");
    let prefix = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix("[0-9a-f]{32}$"));
    let prefix = prefix.unwrap_or_else(|| panic!("unknown pattern {pattern}"));
    let digits = value.as_str().and_then(|text| text.strip_prefix(prefix));
    let fits = digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    fits.then_some(()).ok_or_else(|| format!("{value} does not match {pattern}"))
}
