// Node's etcd3 against one server: pairs, transactions, leases, a watch, a lock and an election. One line for each.
'use strict';
const assert = require('assert');
const { Etcd3 } = require('etcd3');

const client = new Etcd3({ hosts: `http://${process.argv[2]}` });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function pairs() {
  await client.put('node/a').value('1');
  const put = await client.put('node/a').value('2').getPrevious();
  assert.strictEqual(put.value.toString(), '1');
  await client.put('node/b').value('3');
  assert.deepStrictEqual(await client.getAll().prefix('node/').strings(), { 'node/a': '2', 'node/b': '3' });
  assert.deepStrictEqual(await client.getAll().prefix('node/').sort('Key', 'Descend').keys(), ['node/b', 'node/a']);
  assert.strictEqual(await client.getAll().prefix('node/').count(), 2);
  const deleted = await client.delete().prefix('node/');
  assert.strictEqual(deleted.deleted, '2');
  await assert.rejects(client.put('').value('v').exec(), /key is not provided/);
  console.log('node: put, get, delete');
}

async function transactions() {
  const first = await client.if('node/t', 'Version', '==', 0).then(client.put('node/t').value('1')).commit();
  assert.strictEqual(first.succeeded, true);
  const second = await client.if('node/t', 'Value', '==', '9').then(client.put('node/t').value('x'))
    .else(client.get('node/t')).commit();
  assert.strictEqual(second.succeeded, false);
  await client.stm().transact(async (tx) => {
    await tx.put('node/t').value((await tx.get('node/t')) + '1');
  });
  assert.strictEqual(await client.get('node/t').string(), '11');
  console.log('node: transaction, software transaction');
}

async function leases() {
  const lease = client.lease(30);
  await lease.put('node/l').value('v');
  const renewed = await lease.keepaliveOnce();
  assert.strictEqual(renewed.TTL, '30');
  await lease.revoke();
  assert.strictEqual(await client.get('node/l').string(), null);
  console.log('node: lease');
}

async function watch() {
  const watcher = await client.watch().prefix('node/w').create();
  const seen = [];
  const three = new Promise((done) => {
    const take = (kind) => (kv) => { if (seen.push(`${kind} ${kv.key}`) === 3) done(); };
    watcher.on('put', take('put'));
    watcher.on('delete', take('delete'));
  });
  await client.put('node/w1').value('1');
  await client.put('node/w2').value('2');
  await client.delete().key('node/w1');
  await three;
  assert.deepStrictEqual(seen, ['put node/w1', 'put node/w2', 'delete node/w1']);
  await watcher.cancel();
  console.log('node: watch');
}

async function lock() {
  const held = client.lock('node-lock').ttl(120);
  await held.acquire();
  await assert.rejects(client.lock('node-lock').acquire());
  await held.release();
  await client.lock('node-lock').do(async () => {});
  console.log('node: lock');
}

async function election() {
  const election = client.election('node-election', 120);
  const campaign = election.campaign('first');
  await new Promise((done, fail) => { campaign.on('elected', done); campaign.on('error', fail); });
  assert.strictEqual(await election.leader(), 'first');
  await campaign.proclaim('second');
  assert.strictEqual(await election.leader(), 'second');
  await campaign.resign();
  await pause(100);
  assert.strictEqual(await election.leader(), undefined);
  console.log('node: election');
}

async function main() {
  for (const part of [pairs, transactions, leases, watch, lock, election]) await part();
  const members = await client.cluster.memberList({ linearizable: true });
  assert.strictEqual(members.members.length, 1);
  client.close();
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
