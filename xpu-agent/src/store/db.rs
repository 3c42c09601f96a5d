//! The file: a redb database with one table of objects and one of facts about the store.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path, path::PathBuf};

use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use xpu_model::{Generation, Intent, Object, ObjectKey, Spec};

use super::{
    record::{self, RecordError},
    thread::let_others_go_first,
};

/// Objects by canonical name.
const OBJECTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("objects");
/// `generation` (8 bytes, big endian): the last one when a record was last forgotten; `node-seed`
/// (16 bytes).
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

const GENERATION: &str = "generation";
const NODE_SEED: &str = "node-seed";

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or used.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("{} is in use; another agent runs on this node", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The database cannot be opened or read.
    #[error("cannot open {}; restore it from a backup, or move it away to start empty", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A record cannot be read.
    #[error("cannot read {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        source: RecordError,
    },
    /// The thread did not start.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}

/// One write of a commit.
pub(super) struct Write {
    key: String,
    /// None removes the record.
    record: Option<Vec<u8>>,
}

impl Write {
    pub(super) fn put<S: Spec>(object: &Object<S>) -> Self {
        Self {
            key: object.key().to_string(),
            record: Some(record::encode(object)),
        }
    }

    pub(super) fn remove(key: &ObjectKey) -> Self {
        Self {
            key: key.to_string(),
            record: None,
        }
    }
}

/// What was in the file.
pub(super) struct Loaded {
    pub(super) intent: Intent,
    pub(super) node_seed: [u8; 16],
}

/// The open file.
pub(super) struct Database {
    redb: redb::Database,
    path: PathBuf,
}

impl Database {
    /// Opens or makes `directory/intent.redb` and reads it.
    pub(super) fn open(directory: &Path) -> Result<(Self, Loaded), OpenError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| OpenError::Directory {
                path: directory.to_owned(),
                source,
            })?;
        let path = directory.join("intent.redb");
        let database = redb::Database::create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.clone() },
            error => OpenError::Database {
                path: path.clone(),
                source: Box::new(error.into()),
            },
        })?;
        Self::load(database, path)
    }

    /// Reads an opened file.
    fn load(redb: redb::Database, path: PathBuf) -> Result<(Self, Loaded), OpenError> {
        let database = Self {
            redb,
            path: path.clone(),
        };
        let failed = |source| OpenError::Database {
            path: path.clone(),
            source: Box::new(source),
        };
        let node_seed = database.prepare().map_err(failed)?;
        let records = database.records().map_err(failed)?;
        let mut intent = Intent::default();
        for (key, bytes) in &records.objects {
            record::decode(key, bytes, &mut intent).map_err(|source| OpenError::Record {
                path: path.clone(),
                source,
            })?;
        }
        intent.generation = intent.generation.max(records.generation);
        Ok((database, Loaded { intent, node_seed }))
    }

    /// A store on somebody else's idea of a file.
    #[cfg(test)]
    pub(super) fn on(backend: impl redb::StorageBackend) -> Result<(Self, Loaded), OpenError> {
        let redb = redb::Builder::new()
            .create_with_backend(backend)
            .map_err(|error| OpenError::Database {
                path: PathBuf::new(),
                source: Box::new(error.into()),
            })?;
        Self::load(redb, "/test/intent.redb".into())
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of a commit, or nothing, and returns when it is on disk.
    pub(super) fn commit(&self, generation: Generation, writes: &[Write]) -> Result<(), String> {
        self.try_commit(generation, writes)
            .map_err(|error| error.to_string())
    }

    fn try_commit(&self, generation: Generation, writes: &[Write]) -> Result<(), redb::Error> {
        let transaction = self.redb.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for Write { key, record } in writes {
                match record {
                    Some(record) => objects.insert(key.as_str(), record.as_slice())?,
                    None => objects.remove(key.as_str())?,
                };
            }
            // Every record tells its own, so that the last is known as long as none goes.
            if writes.iter().any(|write| write.record.is_none()) {
                let mut meta = transaction.open_table(META)?;
                meta.insert(GENERATION, generation.0.to_be_bytes().as_slice())?;
            }
        }
        let_others_go_first();
        // redb's default durability: on disk when commit() returns.
        transaction.commit()?;
        Ok(())
    }

    /// Makes the tables and the node's seed if they are not there.
    fn prepare(&self) -> Result<[u8; 16], redb::Error> {
        let transaction = self.redb.begin_write()?;
        let seed = {
            transaction.open_table(OBJECTS)?;
            let mut meta = transaction.open_table(META)?;
            let stored = meta
                .get(NODE_SEED)?
                .and_then(|seed| seed.value().try_into().ok());
            match stored {
                Some(seed) => seed,
                None => {
                    let seed = *uuid::Uuid::new_v4().as_bytes();
                    meta.insert(NODE_SEED, seed.as_slice())?;
                    seed
                }
            }
        };
        transaction.commit()?;
        Ok(seed)
    }

    fn records(&self) -> Result<Records, redb::Error> {
        let transaction = self.redb.begin_read()?;
        let meta = transaction.open_table(META)?;
        let number = meta
            .get(GENERATION)?
            .and_then(|bytes| bytes.value().try_into().ok());
        let mut objects = Vec::new();
        for entry in transaction.open_table(OBJECTS)?.iter()? {
            let (key, value) = entry?;
            objects.push((key.value().to_owned(), value.value().to_owned()));
        }
        Ok(Records {
            generation: Generation(number.map_or(0, u64::from_be_bytes)),
            objects,
        })
    }
}

struct Records {
    generation: Generation,
    objects: Vec<(String, Vec<u8>)>,
}
