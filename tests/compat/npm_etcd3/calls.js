// What npm's etcd3 makes of a server: `node calls.js PORT`, a line for each call. The library is found by NODE_PATH.
// Ids and revisions that are a cluster's own are not printed.
'use strict';
const { Etcd3, EtcdLockFailedError } = require('etcd3');

const client = new Etcd3({ hosts: `http://127.0.0.1:${process.argv[2]}` });
const tell = (name, value) => console.log(`${name}: ${JSON.stringify(value)}`);
const refused = async (name, promise) => {
  try {
    tell(name, await promise);
  } catch (error) {
    tell(name, [error.constructor.name, error.message]);
  }
};

async function keys() {
  await client.put('npm/a').value('1');
  await client.put('npm/b').value('2');
  tell('get', await client.get('npm/a').string());
  tell('nothing', await client.get('npm/nothing').string());
  tell('all', await client.getAll().prefix('npm/').strings());
  tell('sorted', await client.getAll().prefix('npm/').sort('Value', 'Descend').limit(1).keys());
  tell('count', await client.getAll().prefix('npm/').count());
  tell('if', (await client.if('npm/a', 'Value', '==', '1').then(client.put('npm/a').value('3')).commit()).succeeded);
  tell('else', (await client.if('npm/a', 'Value', '==', '1').else(client.get('npm/b')).commit()).succeeded);
  tell('delete', (await client.delete().prefix('npm/')).deleted);
  await refused('future', client.get('npm/a').revision(1000000).string());
}

async function leases() {
  const lease = client.lease(60);
  await lease.put('npm/leased').value('x');
  const id = await lease.grant();
  tell('lease', Object.keys(await client.leaseClient.leaseTimeToLive({ ID: id, keys: true })).sort());
  await lease.keepaliveOnce();
  await lease.revoke();
  tell('leased', await client.get('npm/leased').string());
  await refused('revoked', client.put('npm/leased').value('x').lease(id));
}

async function watches() {
  const watcher = await client.watch().prefix('npm/w').create();
  const seen = [];
  const done = new Promise((resolve) => {
    watcher.on('put', (kv) => seen.push(['put', kv.key.toString(), kv.value.toString()]));
    watcher.on('delete', (kv) => {
      seen.push(['delete', kv.key.toString()]);
      resolve();
    });
  });
  await client.put('npm/w1').value('1');
  await client.put('npm/x').value('unseen');
  await client.delete().key('npm/w1');
  await done;
  tell('watched', seen);
  await watcher.cancel();
}

async function locks() {
  const lock = await client.lock('npm-lock').ttl(30).acquire();
  await refused('locked', client.lock('npm-lock').ttl(30).acquire());
  await lock.release();
  tell('done within', await client.lock('npm-lock').ttl(30).do(async () => 'held'));
  tell('kind', typeof EtcdLockFailedError);
}

async function elections() {
  const election = client.election('npm-election', 30);
  const campaign = election.campaign('one');
  await new Promise((resolve) => campaign.once('elected', resolve));
  tell('leader', await election.leader());
  const observer = await election.observe();
  const told = new Promise((resolve) => observer.on('change', (leader) => leader === 'two' && resolve(leader)));
  await campaign.proclaim('two');
  tell('observed', await told);
  await observer.cancel();
  await campaign.resign();
  tell('resigned', (await election.leader()) || null);
}

(async () => {
  for (const part of [keys, leases, watches, locks, elections]) await part();
  tell('members', (await client.cluster.memberList({})).members.map((member) => member.name));
  client.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
