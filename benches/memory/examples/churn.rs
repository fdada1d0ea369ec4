use bench_memory::*;
struct Ours(slabmem::Slab<Item>);
impl Table for Ours {
    type Key = slabmem::Key;
    const NAME: &'static str = "slabmem";
    #[inline(always)]
    fn new() -> Self { Self(slabmem::Slab::new()) }
    #[inline(always)]
    fn insert(&mut self, item: Item) -> Self::Key { self.0.insert(item).unwrap() }
    #[inline(always)]
    fn remove(&mut self, key: Self::Key) -> Option<Item> { self.0.remove(key) }
    #[inline(always)]
    fn first_word(&self, key: Self::Key) -> Option<u64> { self.0.get(key).map(|item| item[0]) }
    #[inline(always)]
    fn sum(&self) -> u64 { 0 }
}
fn main() {
    let (mut t, mut k) = filled::<Ours>(10_000);
    let mut n = Numbers::new();
    let s = std::time::Instant::now();
    println!("{}", churn(&mut t, &mut k, &mut n, 50_000_000));
    println!("{}", s.elapsed().as_nanos() as f64 / 5e7);
}
