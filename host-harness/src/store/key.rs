//! Ids of artifacts as keys of the database.
//!
//! Why not as they are: the UUIDs of artifacts are made of the time of what happened (version 1), and that version begins
//! with the digits that change fastest. A batch of them touches as many pages of the index as it has ids: with a million
//! stored that was the half of the time. As keys they begin with the slowest digits, so that what happened one after
//! the other lies together.
//! Not guaranteed: that keys of other versions lie in any order. They are kept as they are, behind a byte that no key of
//! version 1 begins with, so that no two ids have one key.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use uuid::Uuid;

/// What the keys of ids begin with that are not of version 1. The keys of version 1 begin with its digit.
const OTHER: u8 = 0xff;

/// An id as it is written to and read from the database.
pub(super) struct Key(pub(super) Uuid);

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *self.0.as_bytes();
        let mut key = Vec::with_capacity(17);
        if self.0.get_version_num() == 1 {
            key.extend([g, h, e, f, a, b, c, d]);
            key.extend(rest);
        } else {
            key.push(OTHER);
            key.extend(self.0.as_bytes());
        }
        Ok(ToSqlOutput::from(key))
    }
}

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let key = value.as_blob()?;
        let wrong = || FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: key.len() };
        let id = match key.split_first() {
            Some((&OTHER, id)) => <[u8; 16]>::try_from(id).map_err(|_| wrong())?,
            _ => {
                let [g, h, e, f, a, b, c, d, i, j, k, l, m, n, o, p] =
                    <[u8; 16]>::try_from(key).map_err(|_| wrong())?;
                [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
            }
        };
        Ok(Self(Uuid::from_bytes(id)))
    }
}

/// How the ids of versions before become keys. In two steps, because a key may look like the id of somebody else.
pub(super) const FROM_IDS: &str = "
    UPDATE artifact SET id = unhex('00' || CASE substr(hex(id), 13, 1)
        WHEN '1' THEN substr(hex(id), 13, 4) || substr(hex(id), 9, 4) || substr(hex(id), 1, 8) || substr(hex(id), 17)
        ELSE 'FF' || hex(id) END);
    UPDATE artifact SET id = substr(id, 2);
";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;
    use rusqlite::types::Value;

    use super::*;

    fn key(id: Uuid) -> Vec<u8> {
        match Key(id).to_sql().expect("a key") {
            ToSqlOutput::Owned(Value::Blob(key)) => key,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn every_id_has_a_key_of_its_own_that_leads_back_to_it(id in any::<u128>(), version in 0_u128..16) {
            let id = Uuid::from_u128(id & !(0xf << 76) | (version << 76));
            let key = key(id);
            prop_assert_eq!(key.first() == Some(&OTHER), id.get_version_num() != 1);
            prop_assert_eq!(Key::column_result(ValueRef::Blob(&key)).expect("an id").0, id);
            let database = Connection::open_in_memory().expect("database");
            database.execute_batch("CREATE TABLE artifact (id BLOB NOT NULL UNIQUE) STRICT").expect("table");
            database.execute("INSERT INTO artifact VALUES (?1)", [id.as_bytes()]).expect("row");
            database.execute_batch(FROM_IDS).expect("migrated");
            let migrated: Vec<u8> = database.query_row("SELECT id FROM artifact", [], |row| row.get(0)).expect("row");
            prop_assert_eq!(migrated, key);
        }
    }

    #[test]
    fn keys_are_in_the_order_of_the_times_in_the_ids() {
        let keys: Vec<Vec<u8>> = (0..40_u64)
            .map(|power| {
                let ticks = 0x01e0_0000_0000_0000 + (1 << power);
                key(uuid::Builder::from_gregorian_timestamp(
                    ticks,
                    0xffff - u16::try_from(power).expect("small"),
                    &[9; 6],
                )
                .into_uuid())
            })
            .collect();
        assert!(keys.is_sorted(), "{keys:x?}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for key in [&[][..], &[1; 15], &[1; 17], &[OTHER; 16], &[OTHER; 18]] {
            assert!(Key::column_result(ValueRef::Blob(key)).is_err(), "{key:x?}");
        }
    }
}
