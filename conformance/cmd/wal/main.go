// The judge of `wal` and `snap`: logs that real etcd releases and etcd's own wal package wrote are read by our
// `wal-dump` record by record; logs that our writer wrote are read by etcd's package, by etcdutl and by etcd itself.
package main

import (
	"os"

	"stanchion.invalid/conformance/internal/harness"
)

func main() {
	harness.Run("wal", func(j *harness.Judge) error {
		if err := syntheticLogs(j); err != nil {
			return err
		}
		for _, release := range harness.Releases {
			dir, err := realDirectory(j, release)
			if err != nil {
				return err
			}
			if err := judgeReal(j, release, dir); err != nil {
				return err
			}
			os.RemoveAll(j.Temp(release))
		}
		return nil
	})
}
