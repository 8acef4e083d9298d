// SPDX-License-Identifier: BSD-2-Clause
//! hello.c in Rust, with nothing but the standard library and the C library's ioctl and mmap.

use std::ffi::{c_int, c_ulong, c_void};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn mmap(at: *mut c_void, size: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64)
        -> *mut c_void;
}

const TEE_IOC_VERSION: c_ulong = 0x800c_a400;
const TEE_IOC_SHM_ALLOC: c_ulong = 0xc010_a401;
const TEE_IOC_OPEN_SESSION: c_ulong = 0x8010_a402;
const TEE_IOC_INVOKE: c_ulong = 0x8010_a403;

#[repr(C)]
#[derive(Default)]
struct OpenSession {
    uuid: [u8; 16],
    clnt_uuid: [u8; 16],
    words: [u32; 6], // clnt_login cancel_id session ret ret_origin num_params
}

#[repr(C)]
struct Invoke {
    words: [u32; 6], // func session cancel_id ret ret_origin num_params
    param: [u64; 4],
}

#[repr(C)]
struct ShmAlloc {
    size: u64,
    flags: u32,
    id: i32,
}

fn buf_ioctl<T>(fd: c_int, command: c_ulong, argument: &mut T) {
    let data = [argument as *mut T as u64, std::mem::size_of::<T>() as u64];
    assert_eq!(unsafe { ioctl(fd, command, &data) }, 0);
}

fn main() {
    let device = OpenOptions::new().read(true).write(true).open("/dev/tee0").unwrap();
    let fd = device.as_raw_fd();
    let mut version = [0u32; 3];
    assert_eq!(unsafe { ioctl(fd, TEE_IOC_VERSION, &mut version) }, 0);
    assert_eq!(version[0], 1);

    let mut open = OpenSession::default();
    open.uuid = 0x3f1b8f5e_6a3d_4c0e_8f0b_2d9c1a7e5b10u128.to_be_bytes();
    buf_ioctl(fd, TEE_IOC_OPEN_SESSION, &mut open);
    assert_eq!(open.words[3], 0);

    let mut alloc = ShmAlloc { size: 4096, flags: 0, id: 0 };
    let shm = unsafe { ioctl(fd, TEE_IOC_SHM_ALLOC, &mut alloc) };
    assert!(shm >= 0);
    let memory = unsafe { mmap(std::ptr::null_mut(), 4096, 3, 1, shm, 0) } as *mut u8;
    unsafe { std::ptr::copy_nonoverlapping(b"hello".as_ptr(), memory, 5) };

    let mut invoke = Invoke {
        words: [1, open.words[2], 0, 0, 0, 1],
        param: [7, 0, 5, alloc.id as u64],
    };
    buf_ioctl(fd, TEE_IOC_INVOKE, &mut invoke);
    assert_eq!(invoke.words[3], 0);
    assert_eq!(unsafe { std::slice::from_raw_parts(memory, 6) }, b"HELLO\0");
    println!("ok hello");
}
