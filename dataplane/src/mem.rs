//! Memory of large tables: huge pages and prefetching. Holds the unsafe code that the MAC table,
//! the RIB and frames in ordinary memory share.
#![allow(unsafe_code)]

/// Size of a page on x86-64, and on AArch64 as usually configured, bytes.
const PAGE: usize = 4096;

/// Size of a huge page, bytes.
const HUGE_PAGE: usize = 2 << 20;

/// Makes the C library allocate each large block with mmap, so that it returns to the kernel when
/// it is freed. By default, glibc stops doing so once such a block has been freed
/// (`M_MMAP_THRESHOLD` in mallopt(3)), and every table that was outgrown stays in the process. To
/// be called once, before any table is created.
pub fn mmap_large_blocks() {
    // Smallest block that is worth a system call, bytes.
    #[cfg(all(target_env = "gnu", not(miri)))]
    const LARGE: libc::c_int = 1 << 20;
    #[cfg(all(target_env = "gnu", not(miri)))]
    // SAFETY: the call takes two integers, and only changes how later allocations are made.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// An empty vector with a capacity of `count` values, in huge pages when it is large enough: random
/// lookups then miss the TLB far less often.
#[must_use]
pub fn reserve<T>(count: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    advise_huge_pages(&mut values);
    values
}

fn advise_huge_pages<T>(values: &mut Vec<T>) {
    let bytes = values.capacity() * size_of::<T>();
    if bytes >= 2 * HUGE_PAGE && !cfg!(miri) {
        let start = values.as_mut_ptr().cast::<u8>();
        let skip = start.align_offset(PAGE);
        let len = (bytes - skip) & !(PAGE - 1);
        // SAFETY: the range lies within this allocation, which is borrowed exclusively, and the
        // advice never changes the contents of memory. A kernel without huge pages rejects it,
        // which only costs speed.
        let _ = unsafe {
            rustix::mm::madvise(
                start.wrapping_add(skip).cast(),
                len,
                rustix::mm::Advice::LinuxHugepage,
            )
        };
    }
}

/// A slice of `count` values, allocated as by [`reserve`].
pub(crate) fn allocate<T>(count: usize, value: impl FnMut() -> T) -> Box<[T]> {
    let mut values = reserve(count);
    values.extend(std::iter::repeat_with(value).take(count));
    values.into_boxed_slice()
}

/// Prefetches the cache line of an address; any address is allowed.
#[inline(always)]
pub fn prefetch<T>(target: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch only affects caches, and does nothing for an unmapped address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(target.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = target;
}

/// Calls `work`, compiled for the widest vectors that the CPU has: for a loop over many bytes that is
/// inlined into it, and that the compiler makes vectors of.
#[inline(always)]
pub(crate) fn with_wide_vectors<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2.
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
