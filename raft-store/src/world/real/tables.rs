//! The tables in RocksDB.

use std::io;
use std::path::Path;

use rocksdb::DB;
use rocksdb::Direction;
use rocksdb::FlushOptions;
use rocksdb::IteratorMode;
use rocksdb::Options;
pub(crate) use rocksdb::WriteBatch as Writes;
use rocksdb::WriteOptions;
use rocksdb::checkpoint::Checkpoint;

/// Memory for changes not yet in files, per node. Bounds what is applied again after a crash.
const WRITE_BUFFER_BYTES: usize = 16 << 20;
const BLOCK_CACHE_BYTES: usize = 16 << 20;

/// Ordered keys and values, written without a write-ahead log.
pub(crate) struct Tables {
    db: DB,
    write_options: WriteOptions,
}

impl Tables {
    /// Opens or creates the tables in `directory`.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        options.set_max_write_buffer_number(3);
        options.set_max_background_jobs(2);
        options.set_max_open_files(256);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        let mut table = rocksdb::BlockBasedOptions::default();
        let cache = rocksdb::Cache::new_lru_cache(BLOCK_CACHE_BYTES).map_err(io::Error::other)?;
        table.set_block_cache(&cache);
        table.set_bloom_filter(10.0, false);
        options.set_block_based_table_factory(&table);
        std::fs::create_dir_all(directory)?;
        let db = DB::open(&options, directory).map_err(io::Error::other)?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Self { db, write_options })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        fatal(self.db.get(key))
    }

    pub(crate) fn scan(&self, from: &[u8], to: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> bool) {
        let mode = IteratorMode::From(from, Direction::Forward);
        for item in self.db.iterator(mode) {
            let (key, value) = fatal(item);
            if &key[..] >= to || !visit(&key, &value) {
                return;
            }
        }
    }

    pub(crate) fn last(&self, from: &[u8], to: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mode = IteratorMode::From(to, Direction::Reverse);
        for item in self.db.iterator(mode) {
            let (key, value) = fatal(item);
            if &key[..] < from {
                return None;
            }
            if &key[..] < to {
                return Some((key.into(), value.into()));
            }
        }
        None
    }

    pub(crate) fn write(&self, writes: Writes) -> io::Result<()> {
        self.db.write_opt(writes, &self.write_options).map_err(io::Error::other)
    }

    pub(crate) fn checkpoint(&self, to: &Path) -> io::Result<()> {
        let checkpoint = Checkpoint::new(&self.db).map_err(io::Error::other)?;
        checkpoint.create_checkpoint(to).map_err(io::Error::other)
    }

    /// Begins a flush and does not wait for it.
    pub(crate) fn flush_soon(&self) -> io::Result<()> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.db.flush_opt(&options).map_err(io::Error::other)
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.db.flush().map_err(io::Error::other)
    }
}

fn fatal<T>(result: Result<T, rocksdb::Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("could not read the state tables: {error}"),
    }
}
