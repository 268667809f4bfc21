//! Memory of large tables: large pages and prefetching. The only unsafe code of the MAC table; the RIB, which may have
//! none, uses it too, and frames in ordinary memory.
#![allow(unsafe_code)]

/// Size of a page and of a large page on x86-64 and usual AArch64, bytes.
const PAGE: usize = 4096;
const LARGE_PAGE: usize = 2 << 20;

/// Makes the C library give each large block a mapping of its own, and so back to the kernel when it is freed. Left alone,
/// glibc stops to do so after the first was freed (`M_MMAP_THRESHOLD` in mallopt(3)): every table that was outgrown then
/// stays in the process. To be called once, before there are tables.
pub fn give_back_large_blocks() {
    // Bytes from which on a block is large: the parts of a table that are worth a system call.
    #[cfg(all(target_env = "gnu", not(miri)))]
    const LARGE: libc::c_int = 1 << 20;
    #[cfg(all(target_env = "gnu", not(miri)))]
    // SAFETY: the call takes two numbers and changes how later allocations are made.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// An empty vector with room for `count` values. Room of some large pages is put into such: random look-ups then miss
/// the TLB far less.
#[must_use]
pub fn reserve<T>(count: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    prefer_large_pages(&mut values);
    values
}

/// Adds a value to a vector that may become large, and is put into large pages then.
#[inline]
pub fn push<T>(values: &mut Vec<T>, value: T) {
    if values.len() == values.capacity() {
        grow(values);
    }
    values.push(value);
}

#[cold]
fn grow<T>(values: &mut Vec<T>) {
    values.reserve(1);
    prefer_large_pages(values);
}

fn prefer_large_pages<T>(values: &mut Vec<T>) {
    let bytes = values.capacity() * size_of::<T>();
    if bytes >= 2 * LARGE_PAGE && !cfg!(miri) {
        let start = values.as_mut_ptr().cast::<u8>();
        let skip = start.align_offset(PAGE);
        let len = (bytes - skip) & !(PAGE - 1);
        // SAFETY: the range lies within this allocation, which nobody else uses meanwhile, and the advice never changes
        // what memory holds. A kernel without large pages refuses it; small ones serve as well, only slower.
        let _ = unsafe {
            rustix::mm::madvise(
                start.wrapping_add(skip).cast(),
                len,
                rustix::mm::Advice::LinuxHugepage,
            )
        };
    }
}

/// `count` values, as [`reserve`] places them.
pub(crate) fn allocate<T>(count: usize, value: impl FnMut() -> T) -> Box<[T]> {
    let mut values = reserve(count);
    values.extend(std::iter::repeat_with(value).take(count));
    values.into_boxed_slice()
}

/// Starts to load the cache line of an address, which may be any.
#[inline(always)]
pub fn prefetch<T>(target: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch has no effect but on caches, and none at all where there is no memory.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(target.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = target;
}
