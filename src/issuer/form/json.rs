//! A login written as one JSON object.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Fields, FormError};

/// Reads the members of the object into `fields`. Unknown ones are skipped without being kept, however deep they are.
pub(super) fn read(text: &str, fields: &mut Fields) -> Result<(), FormError> {
    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Members { fields, refused: &mut refused }.deserialize(&mut deserializer);
    match (refused, read.and_then(|()| deserializer.end())) {
        (Some(refused), _) => Err(refused),
        (None, Ok(())) => Ok(()),
        // The message may quote what the client sent, so only the place is kept.
        (None, Err(error)) => Err(FormError::Json { line: error.line(), column: error.column() }),
    }
}

/// serde errors are text, so a refusal of ours is put aside and the reading ended with an error that nobody sees.
struct Members<'a> {
    fields: &'a mut Fields,
    refused: &'a mut Option<FormError>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = members.next_key()? {
            let member = match self.fields.name(&name) {
                Ok(Some(field)) => match members.next_value()? {
                    Value::String(value) => {
                        self.fields.value(field, value);
                        Ok(())
                    }
                    Value::Null => self.fields.null(field),
                    Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        Err(FormError::NotText { field })
                    }
                },
                Ok(None) => {
                    members.next_value::<IgnoredAny>()?;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = member {
                *self.refused = Some(error);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Name(String);
