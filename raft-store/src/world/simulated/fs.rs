//! `std::fs`, as far as it is used, on simulated disks.

use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use super::Process;
use super::disk::Node;

/// An open file or directory.
pub(crate) struct File {
    process: Process,
    node: Node,
    position: AtomicU64,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a file of {:?}", self.process)
    }
}

pub(crate) struct Metadata {
    length: u64,
    modified: SystemTime,
}

impl Metadata {
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn modified(&self) -> io::Result<SystemTime> {
        Ok(self.modified)
    }
}

fn locate(path: &Path) -> io::Result<(Process, &Path)> {
    let (process, rest) = Process::of_path(path)
        .ok_or_else(|| io::Error::other(format!("{} is on no simulated disk", path.display())))?;
    if process.is_dead() {
        return Err(io::Error::other("the simulated process is dead"));
    }
    Ok((process, rest))
}

fn a_file(node: &Node) -> io::Result<&parking_lot::Mutex<super::disk::Content>> {
    match node {
        Node::File(file) => Ok(file),
        Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
    }
}

impl File {
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().read(true).open(path)
    }

    pub(crate) fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.process.disk().flush(&self.process, &self.node)
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        self.process.disk().set_len(&self.process, a_file(&self.node)?, length)
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        let file = a_file(&self.node)?.lock();
        Ok(Metadata {
            length: file.data.len() as u64,
            modified: file.modified.unwrap_or(UNIX_EPOCH),
        })
    }
}

/// As in `std::os::unix::fs`.
pub(crate) trait FileExt {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

impl FileExt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let file = a_file(&self.node)?.lock();
        let start = offset as usize;
        let bytes = file.data.get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.process.disk().write_at(&self.process, a_file(&self.node)?, bytes, offset)
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all_at(bytes, self.position.load(Ordering::Relaxed))?;
        self.position.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let file = a_file(&self.node)?.lock();
        let start = (self.position.load(Ordering::Relaxed) as usize).min(file.data.len());
        let count = buffer.len().min(file.data.len() - start);
        buffer[..count].copy_from_slice(&file.data[start..start + count]);
        self.position.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(position) => {
                self.position.store(position, Ordering::Relaxed);
                Ok(position)
            }
            SeekFrom::End(_) | SeekFrom::Current(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// How to open a file.
#[derive(Default)]
pub(crate) struct OpenOptions {
    create: bool,
    truncate: bool,
}

impl OpenOptions {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn read(&mut self, _: bool) -> &mut Self {
        self
    }

    pub(crate) fn write(&mut self, _: bool) -> &mut Self {
        self
    }

    pub(crate) fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    pub(crate) fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    pub(crate) fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (process, path) = locate(path.as_ref())?;
        let node = match process.disk().find(path) {
            Ok(node) => node,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.create => {
                let node = Node::new_file();
                process.disk().put(&process, path, node.clone())?;
                node
            }
            Err(error) => return Err(error),
        };
        let file = File { process, node, position: AtomicU64::new(0) };
        if self.truncate {
            file.set_len(0)?;
        }
        Ok(file)
    }
}

pub(crate) struct DirEntry(PathBuf);

impl DirEntry {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    pub(crate) fn file_name(&self) -> OsString {
        self.0.file_name().unwrap_or_default().to_owned()
    }
}

pub(crate) fn read_dir(
    path: impl AsRef<Path>,
) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    let whole = path.as_ref().to_owned();
    let (process, path) = locate(&whole)?;
    let names = process.disk().list(path)?;
    Ok(names.into_iter().map(move |name| Ok(DirEntry(whole.join(name)))))
}

pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let (process, path) = locate(path.as_ref())?;
    let node = process.disk().find(path)?;
    Ok(a_file(&node)?.lock().data.clone())
}

pub(crate) fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(io::Error::other)
}

pub(crate) fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    File::create(path)?.write_all(bytes.as_ref())
}

pub(crate) fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    let (process, path) = locate(path.as_ref())?;
    Ok(process.disk().find(path).is_ok())
}

pub(crate) fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    File::open(path)?.metadata()
}

pub(crate) fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (process, from) = locate(from.as_ref())?;
    let (_, to) = locate(to.as_ref())?;
    process.disk().rename(&process, from, to)
}

pub(crate) fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let (process, path) = locate(path.as_ref())?;
    process.disk().remove(&process, path)
}

/// One name at a time, as the real one does it.
pub(crate) fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let (process, path) = locate(path.as_ref())?;
    remove_tree(&process, path)
}

fn remove_tree(process: &Process, path: &Path) -> io::Result<()> {
    if let Node::Directory(_) = process.disk().find(path)? {
        for name in process.disk().list(path)? {
            remove_tree(process, &path.join(name))?;
        }
    }
    process.disk().remove(process, path)
}

pub(crate) fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let (process, path) = locate(path.as_ref())?;
    let mut made = PathBuf::new();
    for part in path.components() {
        made.push(part);
        if process.disk().find(&made).is_err() {
            process.disk().put(&process, &made, Node::new_directory())?;
        }
    }
    Ok(())
}

pub(crate) fn hard_link(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (process, from) = locate(from.as_ref())?;
    let (_, to) = locate(to.as_ref())?;
    let node = process.disk().find(from)?;
    process.disk().put(&process, to, node)
}

pub(crate) fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let bytes = read(from)?;
    write(to, &bytes)?;
    Ok(bytes.len() as u64)
}
