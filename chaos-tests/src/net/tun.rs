//! A TUN device: a network interface whose other end is a file descriptor of this process.
//!
//! Invariant: the device lives as long as the descriptor, so it can not be left behind, not even by
//! `kill -9`.
//!
//! Not here: address and state of the interface, which `ip` sets.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::ioctl::{self, Opcode, Updater, opcode};

const DEVICE: &str = "/dev/net/tun";
/// From `linux/if_tun.h`: attach the descriptor to an interface.
const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
/// Packets of IP, without a header of the device before them.
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
/// Of the name, with the zero at its end.
const NAME_BYTES: usize = 16;

/// One open device.
pub(super) struct Tun {
    file: File,
}

/// `struct ifreq` of `linux/if.h`, as this request uses it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: u16,
    unused: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);

impl Tun {
    /// Makes a device in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`ErrorKind::ResourceBusy`] if another process holds a device of this name there.
    pub fn open(name: &str) -> io::Result<Self> {
        let mut request =
            InterfaceRequest { name: [0; NAME_BYTES], flags: IFF_TUN | IFF_NO_PI, unused: [0; 22] };
        if name.len() >= NAME_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidInput, "name of a device too long"));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        let file = File::options().read(true).write(true).open(DEVICE)?;
        attach(&file, &mut request)?;
        rustix::io::ioctl_fionbio(&file, true)?;
        Ok(Self { file })
    }

    /// The next packet that the kernel sends into the device; `None` if there is none now.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands a packet to the kernel as if it came from the wire.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write(packet).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[allow(unsafe_code, reason = "no crate of those used here offers this request safely")]
fn attach(file: &File, request: &mut InterfaceRequest) -> io::Result<()> {
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, whose size and layout
    // `InterfaceRequest` has; the borrow outlives the call.
    unsafe { ioctl::ioctl(file, Updater::<TUNSETIFF, InterfaceRequest>::new(request)) }?;
    Ok(())
}
