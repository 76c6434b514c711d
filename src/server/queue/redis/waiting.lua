return redis.call('HLEN', p .. 'jobs') + redis.call('ZCARD', p .. 'taken')
