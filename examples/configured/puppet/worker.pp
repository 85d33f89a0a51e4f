# What a worker is, as a team has it for its servers; nothing in it knows of Kiln.
node default {
  package { 'cron':
    ensure => installed,
  }
  user { 'worker':
    ensure     => present,
    system     => true,
    home       => '/var/lib/worker',
    shell      => '/bin/false',
    managehome => true,
  }
  file { '/etc/cron.d/worker':
    ensure  => file,
    owner   => 'root',
    group   => 'root',
    mode    => '0644',
    content => "17 * * * * worker /usr/bin/true\n",
    require => [Package['cron'], User['worker']],
  }
  service { 'cron':
    ensure  => running,
    enable  => true,
    require => Package['cron'],
  }
  class { 'motd':
    text => "A worker, virtual is ${facts['virtual']}",
  }
}
