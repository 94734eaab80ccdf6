/// eˣ of each value; below −87.3 it is the smallest normal number.
package func exponentials(
  _ count: Int, _ x: UnsafeMutablePointer<Float>, into result: UnsafeMutablePointer<Float>
) {
  mapVectors(count, x, into: result) { exp($0) }
}
