// bbolt under the workloads of the Rust program one folder up, which starts it: same rows, same figures.
//
//	bbolt FILE etcd|random KEYS      prints puts/s, ns a get, µs a scan of 1,000, deletes/s, MiB of the file,
//	                                 µs an open of it without and with a stored freelist
package main

import (
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	batch    = 10_000
	gets     = 200_000
	scans    = 1_000
	scanRows = 1_000
	valueLen = 300
)

var bucketName = []byte("key")

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: bbolt FILE etcd|random KEYS")
	}
	keys, err := strconv.ParseUint(os.Args[3], 10, 64)
	check(err)
	load := load{rising: os.Args[2] == "etcd", keys: keys}
	db := open(os.Args[1], false)
	put := load.put(db)
	info, err := os.Stat(os.Args[1])
	check(err)
	get, scan, del := load.get(db), load.scan(db), load.delete(db)
	check(db.Close())
	scanned := reopen(os.Args[1], false)
	db = open(os.Args[1], true)
	load.touch(db)
	check(db.Close())
	fmt.Println(put, get, scan, del, float64(info.Size())/(1<<20), scanned, reopen(os.Args[1], true))
}

// open opens with the settings of etcd, which stores no freelist.
func open(path string, storeFreelist bool) *bolt.DB {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		NoFreelistSync: !storeFreelist, FreelistType: bolt.FreelistMapType, InitialMmapSize: 8 << 30,
	})
	check(err)
	return db
}

// reopen returns the microseconds until a file that nobody has open can be written to.
func reopen(path string, storeFreelist bool) int64 {
	start := time.Now()
	db := open(path, storeFreelist)
	micros := time.Since(start).Microseconds()
	check(db.Close())
	return micros
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type load struct {
	rising bool
	keys   uint64
}

func (l load) key(i uint64) []byte {
	if l.rising {
		key := make([]byte, 17)
		binary.BigEndian.PutUint64(key, i)
		key[8] = '_'
		return key
	}
	key := make([]byte, 0, 32)
	for part := range uint64(4) {
		key = binary.BigEndian.AppendUint64(key, mix(4*i+part))
	}
	return key
}

func value(i uint64) []byte {
	value := make([]byte, valueLen)
	for j := range value {
		value[j] = byte(i)
	}
	binary.BigEndian.PutUint64(value, mix(i))
	return value
}

// sink keeps the compiler from leaving out the reads of seen.
var sink byte

// seen looks at the value's ends and returns its length.
func seen(value []byte) int {
	if len(value) > 0 {
		sink ^= value[0] ^ value[len(value)-1]
	}
	return len(value)
}

func (l load) put(db *bolt.DB) float64 {
	start := time.Now()
	for first := uint64(0); first < l.keys; first += batch {
		check(db.Update(func(tx *bolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists(bucketName)
			if err != nil {
				return err
			}
			if l.rising {
				bucket.FillPercent = 0.9
			}
			for i := first; i < min(l.keys, first+batch); i++ {
				if err := bucket.Put(l.key(i), value(i)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return float64(l.keys) / time.Since(start).Seconds()
}

func (l load) get(db *bolt.DB) float64 {
	keys := make([][]byte, gets)
	for n := range keys {
		keys[n] = l.key(mix(uint64(n)) % l.keys)
	}
	start, bytes := time.Now(), 0
	check(db.View(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketName)
		for _, key := range keys {
			bytes += seen(bucket.Get(key))
		}
		return nil
	}))
	if bytes != gets*valueLen {
		log.Fatal("a row was not found")
	}
	return float64(time.Since(start).Nanoseconds()) / gets
}

func (l load) scan(db *bolt.DB) float64 {
	from := make([][]byte, scans)
	for n := range from {
		from[n] = l.key(mix(uint64(n)) % (l.keys - scanRows))
	}
	start, bytes := time.Now(), 0
	check(db.View(func(tx *bolt.Tx) error {
		for _, from := range from {
			cursor := tx.Bucket(bucketName).Cursor()
			key, value := cursor.Seek(from)
			for n := 0; n < scanRows && key != nil; n++ {
				bytes += len(key) + seen(value)
				key, value = cursor.Next()
			}
		}
		return nil
	}))
	if bytes < scans*scanRows*valueLen*9/10 {
		log.Fatal("rows are missing")
	}
	return float64(time.Since(start).Microseconds()) / scans
}

func (l load) delete(db *bolt.DB) float64 {
	dead := l.keys / 10
	start := time.Now()
	for first := uint64(0); first < dead; first += batch {
		check(db.Update(func(tx *bolt.Tx) error {
			bucket := tx.Bucket(bucketName)
			for i := first; i < min(dead, first+batch); i++ {
				if err := bucket.Delete(l.key(i)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return float64(dead) / time.Since(start).Seconds()
}

// touch writes the last row once more: a commit that stores the freelist, where that is wanted.
func (l load) touch(db *bolt.DB) {
	check(db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketName).Put(l.key(l.keys-1), value(l.keys-1))
	}))
}

// mix is the finalizer of SplitMix64.
func mix(i uint64) uint64 {
	z := (i + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
