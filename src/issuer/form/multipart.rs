//! A login written as `multipart/form-data` (RFC 7578), which browsers' `FormData` and Python's `requests` send.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use multer::Multipart;

use super::{Fields, FormError};

/// Reads the parts into `fields`. The body is in memory already and bounded, so nothing here waits.
pub(super) async fn read(content_type: &str, body: Bytes, fields: &mut Fields) -> Result<(), FormError> {
    let boundary = multer::parse_boundary(content_type).map_err(|_| FormError::Multipart)?;
    let body = stream::once(async move { Ok::<_, Infallible>(body) });
    let mut parts = Multipart::new(body, boundary);
    // multer's errors quote names and values, so none is kept.
    while let Some(part) = parts.next_field().await.map_err(|_| FormError::Multipart)? {
        if part.file_name().is_some() {
            return Err(FormError::FilePart);
        }
        let field = fields.name(part.name().ok_or(FormError::Multipart)?)?;
        let value = part.bytes().await.map_err(|_| FormError::Multipart)?;
        let value = String::from_utf8(value.into()).map_err(|_| FormError::NotUtf8)?;
        if let Some(field) = field {
            fields.value(field, value);
        }
    }
    Ok(())
}
