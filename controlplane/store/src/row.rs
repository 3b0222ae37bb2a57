//! From columns to the model's types. What does not parse is a damaged store, told as a decoding error of its column.

use std::str::FromStr;

use model::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn decode<T>(column: &str, result: Result<T, Error>) -> sqlx::Result<T> {
    result.map_err(|source| sqlx::Error::ColumnDecode { index: column.to_owned(), source })
}

/// A text column that parses as `T`.
pub(crate) fn parsed<T>(row: &AnyRow, column: &str) -> sqlx::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: &str = row.try_get(column)?;
    decode(column, text.parse().map_err(Error::from))
}

/// The same, null as `None`.
pub(crate) fn parsed_opt<T>(row: &AnyRow, column: &str) -> sqlx::Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.try_get::<Option<&str>, _>(column)? {
        Some(text) => decode(column, text.parse().map(Some).map_err(Error::from)),
        None => Ok(None),
    }
}

/// A text column that is a name of an enum.
pub(crate) fn named<T>(row: &AnyRow, column: &str, from_name: fn(&str) -> Option<T>) -> sqlx::Result<T> {
    let text: &str = row.try_get(column)?;
    decode(column, from_name(text).ok_or_else(|| Error::from(format!("unknown name {text:?}"))))
}

/// A text column that is JSON.
pub(crate) fn json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> sqlx::Result<T> {
    let text: &str = row.try_get(column)?;
    decode(column, serde_json::from_str(text).map_err(Error::from))
}

/// The same, null as `None`.
pub(crate) fn json_opt<T: DeserializeOwned>(row: &AnyRow, column: &str) -> sqlx::Result<Option<T>> {
    match row.try_get::<Option<&str>, _>(column)? {
        Some(text) => decode(column, serde_json::from_str(text).map(Some).map_err(Error::from)),
        None => Ok(None),
    }
}

/// An integer column that is a time.
pub(crate) fn time(row: &AnyRow, column: &str) -> sqlx::Result<Timestamp> {
    Ok(Timestamp::from_unix_ms(row.try_get(column)?))
}

/// The same, null as `None`.
pub(crate) fn time_opt(row: &AnyRow, column: &str) -> sqlx::Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_unix_ms))
}

/// An integer column that fits an unsigned type.
pub(crate) fn unsigned<T: TryFrom<i64>>(row: &AnyRow, column: &str) -> sqlx::Result<T> {
    let number: i64 = row.try_get(column)?;
    decode(column, T::try_from(number).map_err(|_| Error::from(format!("{number} is out of range"))))
}

/// The same, null as `None`.
pub(crate) fn unsigned_opt<T: TryFrom<i64>>(row: &AnyRow, column: &str) -> sqlx::Result<Option<T>> {
    match row.try_get::<Option<i64>, _>(column)? {
        Some(_) => unsigned(row, column).map(Some),
        None => Ok(None),
    }
}

/// A yes or no: of PostgreSQL a boolean, of SQLite 0 or 1. SQLite tells a column's declared type, which the driver does not
/// know if it is `BOOLEAN`: such a column is read as an expression, `COALESCE(enabled, FALSE) AS enabled`.
pub(crate) fn flag(row: &AnyRow, column: &str) -> sqlx::Result<bool> {
    match row.try_get::<bool, _>(column) {
        Ok(flag) => Ok(flag),
        Err(_) => Ok(unsigned::<u8>(row, column)? != 0),
    }
}
